//! Durable jobs on Postgres: priorities, delays, backoff, groups that run one at a time, dead letters and re-drive;
//! enqueued in the caller's transaction, settled together with their effect.
//!
//! Shape: a job waits in a *lane*, and a lane is a lease of one process (`store::Leases`). Claiming is a `SELECT` of
//! what is due in the lanes held plus a mark in memory: it writes nothing. Settling (complete, retry, bury) checks
//! the lane's fencing token in the same transaction, so a process that lost its lane changes nothing. When a
//! process dies its lanes expire, and another process adopts them with everything in them.
//!
//! Cost: one round trip to claim a batch; settling a batch is two (fence, change) within the caller's transaction.
//! Idle, a process asks once every two seconds; whoever enqueues for another process wakes it by `NOTIFY`.
//!
//! Lock order: lease row, then group (advisory), then jobs by id.
//!
//! [`fifo`] is the other kind of queue: messages of a group one after another, on Postgres or Amazon SQS.

mod backoff;
mod claim;
mod enqueue;
pub mod fifo;
mod inspect;
mod job;
mod lanes;
mod settle;
mod worker;

pub use backoff::Backoff;
pub use enqueue::{EnqueuedJob, enqueue_jobs, enqueue_jobs_in_tx};
pub use inspect::{JobErrorSummary, QueueDepth, read_job_errors, read_queue_depths};
pub use job::{Job, JobPriority, NewJob};
pub use lanes::{AdoptionProgress, JobQueue, LaneAdopter, QueueName, lane_class};
pub use settle::{
    JobSettlement, bury_new_jobs_in_tx, delete_dead_jobs_in_tx, fence_lanes, hurry_jobs_in_tx,
    redrive_dead_jobs_in_tx, settle_jobs_in_tx,
};
pub use worker::{JobHandler, JobOutcome, JobWorker, JobWorkerOptions};

/// The channel on which processes wake each other; the payload is the lane.
pub const JOB_WAKE_CHANNEL: &str = "jobs";
