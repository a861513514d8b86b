//! Where runs and their blocks stand.

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunStatus {
    /// Goes on.
    Running,
    /// Every block has done its part.
    Succeeded,
    /// A block has failed.
    Failed,
    /// Not wanted any more.
    Cancelled,
}

/// Where a block stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockStatus {
    /// Waits for others.
    Pending,
    /// Its integration has it.
    Sent,
    /// Done.
    Succeeded,
    /// Failed.
    Failed,
    /// What it depends on has failed, or the run was cancelled before it was sent.
    Skipped,
    /// As it was done last time.
    Cached,
    /// Its integration would not delete it.
    Orphaned,
}

macro_rules! words {
    ($name:ident: $($value:ident $word:literal),+) => {
        impl $name {
            /// All there are.
            pub const ALL: &'static [Self] = &[$(Self::$value),+];

            /// The word.
            pub fn name(self) -> &'static str {
                match self { $(Self::$value => $word),+ }
            }

            /// That of this name.
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
    /// Whether nothing more happens to it in this run.
    pub fn is_final(self) -> bool {
        !matches!(self, BlockStatus::Pending | BlockStatus::Sent)
    }

    /// Whether what depends on it may go on.
    pub fn is_successful(self) -> bool {
        matches!(self, BlockStatus::Succeeded | BlockStatus::Cached | BlockStatus::Orphaned)
    }
}
