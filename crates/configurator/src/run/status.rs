//! The statuses of runs and of their blocks.

/// Status of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunStatus {
    /// Some step has not ended.
    Running,
    /// Every step has succeeded, was a cache hit, or was orphaned.
    Succeeded,
    /// A block has failed.
    Failed,
    /// Cancelled by a client before its end.
    Cancelled,
}

/// Status of a block in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockStatus {
    /// Waits for its dependencies.
    Pending,
    /// Sent to its integration, not answered.
    Sent,
    /// The integration has answered with a success.
    Succeeded,
    /// The integration has answered with an error, or not in time.
    Failed,
    /// A dependency has failed, or the run was cancelled before the block was sent.
    Skipped,
    /// Cache hit: the last success is used again.
    Cached,
    /// The integration refused to delete it.
    Orphaned,
}

macro_rules! words {
    ($name:ident: $($value:ident $word:literal),+) => {
        impl $name {
            /// All values of the enum.
            pub const ALL: &'static [Self] = &[$(Self::$value),+];

            /// The name in the API and in the database.
            pub fn name(self) -> &'static str {
                match self { $(Self::$value => $word),+ }
            }

            /// Parses a name; `None` if it is unknown.
            pub fn parse(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.name() == name)
            }
        }
    };
}

words!(RunStatus: Running "running", Succeeded "succeeded", Failed "failed", Cancelled "cancelled");
words!(BlockStatus: Pending "pending", Sent "sent", Succeeded "succeeded", Failed "failed", Skipped "skipped",
       Cached "cached", Orphaned "orphaned");

impl BlockStatus {
    /// Whether the status no longer changes in this run.
    pub fn is_final(self) -> bool {
        !matches!(self, BlockStatus::Pending | BlockStatus::Sent)
    }

    /// Whether dependents may be sent.
    pub fn is_successful(self) -> bool {
        matches!(self, BlockStatus::Succeeded | BlockStatus::Cached | BlockStatus::Orphaned)
    }
}
