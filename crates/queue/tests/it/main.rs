//! Job queue against a real Postgres; one file per hazard.

// Test helpers may panic.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    missing_docs
)]

mod dead_letters;
mod due_order;
mod fifo;
mod groups;
mod hurried;
mod idle;
mod inspect;
mod large_batches;
mod lock_order;
mod takeover;

use std::sync::Arc;
use std::time::Duration;

use queue::{AdoptionProgress, JOB_WAKE_CHANNEL, JobQueue, NewJob, lane_class};
use store::{LeaseManager, LeaseOptions, PgNotificationHub, PgPool};
use tokio::sync::mpsc;

pub const QUEUE: &str = "test";
pub const TERMS: LeaseOptions =
    LeaseOptions { ttl: Duration::from_millis(300), renewal_interval: Duration::from_millis(50) };
/// A lease that is never renewed: a paused or killed process.
pub const PAUSED: LeaseOptions =
    LeaseOptions { ttl: Duration::from_millis(300), renewal_interval: Duration::from_secs(3600) };

/// Starts a process that works on the test queue and adopts lanes.
pub async fn process(pool: &PgPool, terms: LeaseOptions) -> JobQueue {
    let (adopted, arriving) = mpsc::channel(8);
    let (leases, _) = LeaseManager::start(pool.clone(), terms, vec![lane_class(QUEUE)], adopted);
    let (notifications, _) = PgNotificationHub::start(pool.clone(), vec![JOB_WAKE_CHANNEL]);
    let nothing: queue::LaneAdopter =
        Arc::new(|_, _| Box::pin(std::future::ready(Ok(AdoptionProgress::Complete))));
    let claims = store::open_single_connection_pool(pool);
    JobQueue::start(pool.clone(), claims, QUEUE, leases, &notifications, arriving, nothing)
        .await
        .unwrap()
}

/// Enqueues into the process's lane.
pub async fn enqueue(pool: &PgPool, jobs: &JobQueue, new: Vec<NewJob>) -> Vec<queue::EnqueuedJob> {
    let enqueued = queue::enqueue_jobs(pool, QUEUE, Some(jobs.own_lane()), new).await.unwrap();
    jobs.wake_in(Duration::ZERO);
    enqueued
}

/// Enqueues into a lane of any live process.
pub async fn enqueue_for_anybody(pool: &PgPool, new: Vec<NewJob>) -> Vec<queue::EnqueuedJob> {
    queue::enqueue_jobs(pool, QUEUE, None, new).await.unwrap()
}

pub fn job(payload: &str) -> NewJob {
    NewJob { payload: payload.as_bytes().to_vec(), ..NewJob::default() }
}

pub fn text(job: &queue::Job) -> String {
    String::from_utf8_lossy(&job.payload).into_owned()
}

/// Claims until at least one job is returned.
pub async fn claim(jobs: &JobQueue, most: usize) -> Vec<queue::Job> {
    loop {
        let claimed = jobs.claim(most).await.unwrap();
        if !claimed.is_empty() {
            return claimed;
        }
        jobs.wait_until_due().await;
    }
}

pub async fn settle(
    pool: &PgPool,
    work: Vec<(queue::Job, queue::JobSettlement)>,
) -> store::Result<Option<Duration>> {
    store::transaction("settle", ())
        .run(pool, move |connection, ()| {
            let work = work.clone();
            Box::pin(async move { queue::settle_jobs_in_tx(connection, QUEUE, &work).await })
        })
        .await
}
