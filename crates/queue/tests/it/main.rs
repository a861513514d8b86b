//! The job queue against a real Postgres; one file for each hazard.

// Helpers of tests may fail loudly, too.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::expect_used, clippy::panic, missing_docs)]

mod dead_letters;
mod due_order;
mod fifo;
mod groups;
mod hurried;
mod idle;
mod inspect;
mod large_batches;
mod takeover;

use std::sync::Arc;
use std::time::Duration;

use queue::{Adoption, Jobs, NewJob, WAKE_CHANNEL, lane_class};
use store::{LeaseTerms, Leases, Notifications, PgPool, run_tx};
use tokio::sync::mpsc;

pub const QUEUE: &str = "test";
pub const TERMS: LeaseTerms =
    LeaseTerms { ttl: Duration::from_millis(300), renew_every: Duration::from_millis(50) };
/// Never renews: a process that is paused, or was killed.
pub const PAUSED: LeaseTerms =
    LeaseTerms { ttl: Duration::from_millis(300), renew_every: Duration::from_secs(3600) };

/// A process that works on the test queue and adopts the lanes of others.
pub async fn process(pool: &PgPool, terms: LeaseTerms) -> Jobs {
    let (adopted, arriving) = mpsc::channel(8);
    let (leases, _) = Leases::start(pool.clone(), terms, vec![lane_class(QUEUE)], adopted);
    let (notifications, _) = Notifications::start(pool.clone(), vec![WAKE_CHANNEL]);
    let nothing: queue::Adopt = Arc::new(|_, _| Box::pin(std::future::ready(Ok(Adoption::Complete))));
    Jobs::start(pool.clone(), QUEUE, leases, &notifications, arriving, nothing).await.unwrap()
}

/// Enqueues into the process's own lane.
pub async fn enqueue(pool: &PgPool, jobs: &Jobs, new: Vec<NewJob>) -> Vec<queue::Enqueued> {
    let enqueued = queue::enqueue(pool, QUEUE, Some(jobs.lane()), new).await.unwrap();
    jobs.wake_in(Duration::ZERO);
    enqueued
}

/// Enqueues for whoever is there.
pub async fn enqueue_for_anybody(pool: &PgPool, new: Vec<NewJob>) -> Vec<queue::Enqueued> {
    queue::enqueue(pool, QUEUE, None, new).await.unwrap()
}

pub fn job(payload: &str) -> NewJob {
    NewJob { payload: payload.as_bytes().to_vec(), ..NewJob::default() }
}

pub fn text(job: &queue::Job) -> String {
    String::from_utf8_lossy(&job.payload).into_owned()
}

/// Claims until there is something.
pub async fn claim(jobs: &Jobs, most: usize) -> Vec<queue::Job> {
    loop {
        let claimed = jobs.claim(most).await.unwrap();
        if !claimed.is_empty() {
            return claimed;
        }
        jobs.may_be_due().await;
    }
}

pub async fn settle(
    pool: &PgPool,
    work: Vec<(queue::Job, queue::Settle)>,
) -> store::Result<Option<Duration>> {
    run_tx(pool, "settle", move |connection| {
        let work = work.clone();
        Box::pin(async move { queue::settle_in_tx(connection, QUEUE, &work).await })
    })
    .await
}
