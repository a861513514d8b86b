//! Job types.

use std::sync::Arc;
use std::time::Duration;

use store::Lease;
use tokio::time::Instant;

use crate::ids::JobId;

/// Priority of a job within its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum JobPriority {
    /// Runs before all other jobs.
    High,
    /// The default of new jobs.
    #[default]
    Normal,
    /// When no `Normal` job is due.
    Low,
    /// When no other job is due.
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

/// A job to enqueue.
#[derive(Debug, Clone, Default)]
pub struct NewJob {
    /// Deduplication key: while a job with this key is in the queue, no second one is added.
    pub key: Option<String>,
    /// Group: its jobs run one at a time, in enqueue order.
    pub group: Option<String>,
    /// Priority within the lane.
    pub priority: JobPriority,
    /// Minimum wait before the first attempt.
    pub delay: Duration,
    /// Opaque input of the handler.
    pub payload: Vec<u8>,
    /// Number of attempts already failed.
    pub attempts: u32,
    /// Error of the last of these attempts.
    pub last_error: Option<String>,
}

/// A job claimed by this process.
#[derive(Debug, Clone)]
pub struct Job {
    /// Job id (`jobs.job_id`), unique within the database.
    pub id: JobId,
    /// Lane it was claimed from; its fencing token guards the settlement.
    pub lane: Arc<Lease>,
    /// Deduplication key, see [`NewJob::key`].
    pub key: Option<String>,
    /// Serial group, see [`NewJob::group`].
    pub group: Option<String>,
    /// Priority within the lane.
    pub priority: JobPriority,
    /// Number of failed attempts.
    pub attempts: u32,
    /// Value of `attempts` at the last request for an immediate retry.
    pub(crate) hurried_after: u32,
    /// Opaque input of the handler.
    pub payload: Vec<u8>,
    /// Time in the queue at the claim, by the database's clock.
    pub(crate) age: Duration,
    pub(crate) claimed_at: Instant,
}

impl Job {
    /// Failed attempts since the last request for an immediate retry; determines the backoff.
    pub fn recent_failures(&self) -> u32 {
        self.attempts.saturating_sub(self.hurried_after)
    }

    /// Time in the queue, independent of clock steps after the claim.
    pub fn time_in_queue(&self) -> Duration {
        self.age + self.claimed_at.elapsed()
    }
}
