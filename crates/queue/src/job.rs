//! What a job is.

use std::sync::Arc;
use std::time::Duration;

use store::Lease;
use tokio::time::Instant;

/// Which jobs of a lane go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum JobPriority {
    /// Before everything else.
    High,
    /// The usual.
    #[default]
    Normal,
    /// When nothing usual is due.
    Low,
    /// When nothing else is due.
    Idle,
}

impl JobPriority {
    pub(crate) fn to_number(self) -> i16 {
        self as i16
    }

    pub(crate) fn from_number(number: i16) -> Self {
        match number {
            0 => Self::High,
            2 => Self::Low,
            3 => Self::Idle,
            _ => Self::Normal,
        }
    }
}

/// A job to be enqueued.
#[derive(Debug, Clone, Default)]
pub struct NewJob {
    /// While a job with this key waits in the queue, another one is not added.
    pub key: Option<String>,
    /// Jobs of one group run one at a time, in the order they were enqueued.
    pub group: Option<String>,
    /// Which goes first.
    pub priority: JobPriority,
    /// Not before this has passed.
    pub delay: Duration,
    /// What the handler needs; opaque here.
    pub payload: Vec<u8>,
    /// Attempts that failed already.
    pub attempts: u32,
    /// Why the last of them failed.
    pub last_error: Option<String>,
}

/// A job claimed by this process.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its row.
    pub id: i64,
    /// The lane it was claimed from: settling it is refused once this is lost.
    pub lane: Arc<Lease>,
    /// See [`NewJob::key`].
    pub key: Option<String>,
    /// See [`NewJob::group`].
    pub group: Option<String>,
    /// See [`NewJob::priority`].
    pub priority: JobPriority,
    /// Attempts that failed.
    pub attempts: u32,
    /// How many of them had failed when somebody last asked for it to be tried at once.
    pub(crate) hurried_after: u32,
    /// What the handler needs.
    pub payload: Vec<u8>,
    /// How long it had been in the queue when it was claimed, on the database's clock.
    pub(crate) age: Duration,
    pub(crate) claimed_at: Instant,
}

impl Job {
    /// Attempts that failed since somebody last asked for it to be tried at once: what its backoff goes by.
    pub fn recent_failures(&self) -> u32 {
        self.attempts.saturating_sub(self.hurried_after)
    }

    /// How long it has been in the queue; no step of any machine's clock changes this.
    pub fn time_in_queue(&self) -> Duration {
        self.age + self.claimed_at.elapsed()
    }
}
