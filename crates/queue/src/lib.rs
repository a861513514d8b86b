//! Durable job queue on Postgres: priorities, delays, backoff, serial groups, dead letters and
//! redrive. Jobs are enqueued in the caller's transaction and settled together with their effect.
//!
//! - Shape: a job waits in a *lane*, which is a lease of one process (`store::LeaseManager`). A
//!   claim is a `SELECT` of due jobs in the lanes held plus a mark in memory, without a write.
//!   Settlement (complete, retry, bury) checks the lane's fencing token in the same transaction.
//! - Promise: a process that lost a lane changes none of its jobs. The lanes of a dead process
//!   expire, and another process adopts them with their jobs.
//!
//! - Cost: one round trip to claim a batch, two (fence, change) to settle one within the caller's
//!   transaction. An idle process polls every two seconds; NOTIFY wakes it for
//!   jobs enqueued by others.
//!
//! - Lock order: lease row, then group (advisory lock), then jobs by id.
//!
//! [`fifo`] has the other kind of queue: FIFO message groups on Postgres or Amazon SQS.

mod backoff;
mod claim;
mod enqueue;
pub mod fifo;
mod ids;
mod inspect;
mod job;
mod lanes;
mod settle;
mod worker;

pub use backoff::Backoff;
pub use enqueue::{EnqueuedJob, enqueue_jobs, enqueue_jobs_in_tx};
pub use ids::JobId;
pub use inspect::{JobErrorSummary, QueueDepth, read_job_errors, read_queue_depths};
pub use job::{Job, JobPriority, NewJob};
pub use lanes::{AdoptionProgress, JobQueue, LaneAdopter, QueueName, lane_class};
pub use settle::{
    JobSettlement, bury_new_jobs_in_tx, delete_dead_jobs_in_tx, fence_lanes, hurry_jobs_in_tx,
    redrive_dead_jobs_in_tx, settle_jobs_in_tx,
};
pub use worker::{JobHandler, JobOutcome, JobWorker, JobWorkerOptions};

/// NOTIFY channel of job wakeups; the payload is the lane's id.
pub const JOB_WAKE_CHANNEL: &str = "jobs";
