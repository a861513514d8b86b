//! A worker: claims due jobs, runs a handler on them, settles them in batches.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use store::{Coalescer, Error, run_tx, storable};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::settle::{Settle, settle_in_tx};
use crate::{Backoff, Job, Jobs};

/// After so long a job is worked on again whose end the database refused.
const REFUSED_RETRY_INTERVAL: Duration = Duration::from_secs(15);

/// What a handler says of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Done,
    /// Failed, and may succeed later.
    Failed(String),
    /// Failed, and will never succeed.
    Hopeless(String),
    /// It is not its turn: tried again after so long, with no attempt used up.
    Later(Duration, String),
}

/// Does the work of a queue's jobs. A job may be handled more than once (a crash, a lost lane): effects must be
/// idempotent.
pub trait Handler: Send + Sync + 'static {
    /// Handles one job. A panic counts as [`Outcome::Hopeless`].
    fn handle(&self, job: &Job) -> impl Future<Output = Outcome> + Send;
}

/// How a worker works.
#[derive(Debug, Clone, Copy)]
pub struct WorkerTerms {
    /// Jobs in work at a time.
    pub concurrency: usize,
    /// Waits between attempts.
    pub backoff: Backoff,
    /// Failed attempts after which a job is given up.
    pub max_attempts: u32,
}

/// A running worker.
pub struct Worker {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Worker {
    /// Starts working on the jobs of `jobs`' lanes.
    pub fn start(jobs: Jobs, handler: Arc<impl Handler>, terms: WorkerTerms) -> Self {
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(work(jobs, handler, terms, stopped));
        Self { stop, task }
    }

    /// Claims nothing more and waits for what is in work.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let _ = self.task.await;
    }
}

async fn work(
    jobs: Jobs,
    handler: Arc<impl Handler>,
    terms: WorkerTerms,
    mut stopped: watch::Receiver<bool>,
) {
    let settling = jobs.clone();
    let settled = Coalescer::spawn("settle_jobs", terms.concurrency.max(1) * 2, 1000, move |batch| {
        let jobs = settling.clone();
        async move { settle(&jobs, batch).await }
    });
    let free = Arc::new(Semaphore::new(terms.concurrency));
    loop {
        // Asking for single jobs would cost a round trip each: wait for a good part of the room, at least for one.
        let room = free.available_permits();
        let claimed = match jobs.claim(room).await {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::warn!(%error, code = "UNAVAILABLE", "claiming jobs failed");
                Vec::new()
            }
        };
        let full = claimed.len() == room;
        for job in claimed {
            let Ok(permit) = free.clone().acquire_owned().await else { return };
            let (handler, settled) = (handler.clone(), settled.clone());
            tokio::spawn(async move {
                let outcome = AssertUnwindSafe(handler.handle(&job)).catch_unwind().await;
                let outcome = outcome
                    .unwrap_or_else(|_| Outcome::Hopeless("LOGIC_ERROR: the handler panicked".to_owned()));
                settled.push((job.clone(), verdict(&job, outcome, &terms))).await;
                drop(permit);
            });
        }
        tokio::select! {
            () = next_round(&jobs, &free, terms.concurrency, full) => {}
            _ = stopped.wait_for(|stop| *stop) => break,
        }
    }
    // All permits back means that all outcomes are handed in.
    let _ = free.acquire_many(u32::try_from(terms.concurrency).unwrap_or(u32::MAX)).await;
    settled.drained().await;
}

/// Waits until another claim is worth its round trip: half the room is free, and something may be due.
async fn next_round(jobs: &Jobs, free: &Semaphore, concurrency: usize, full: bool) {
    let half = u32::try_from(concurrency.div_ceil(2)).unwrap_or(u32::MAX);
    drop(free.acquire_many(half).await);
    if !full {
        jobs.may_be_due().await;
    }
}

fn verdict(job: &Job, outcome: Outcome, terms: &WorkerTerms) -> Settle {
    match outcome {
        Outcome::Done => Settle::Complete,
        Outcome::Hopeless(reason) => Settle::Bury { reason: storable(&reason) },
        Outcome::Failed(reason) if job.attempts + 1 >= terms.max_attempts => {
            Settle::Bury { reason: storable(&reason) }
        }
        Outcome::Later(delay, reason) => {
            let if_hurried = terms.backoff.random_delay(1);
            Settle::Retry { delay, if_hurried, reason: storable(&reason), counted: false }
        }
        Outcome::Failed(reason) => {
            let delay = terms.backoff.random_delay(job.failures() + 1);
            let if_hurried = terms.backoff.random_delay(1);
            Settle::Retry { delay, if_hurried, reason: storable(&reason), counted: true }
        }
    }
}

/// Settles a batch, for as long as the database takes; jobs of lost lanes belong to another process now. What is refused for
/// good, or takes too long, is halved: one impossible job does not keep the others, and a slow database gets less at once.
async fn settle(jobs: &Jobs, batch: Vec<(Job, Settle)>) {
    let grouped = batch.iter().any(|(job, _)| job.group.is_some());
    let mut soonest = grouped.then_some(Duration::ZERO);
    let mut piles = vec![batch];
    while let Some(mut pile) = piles.pop() {
        let (held, lost): (Vec<_>, Vec<_>) = pile.into_iter().partition(|(job, _)| !job.lane.is_lost());
        lost.iter().for_each(|(job, _)| jobs.end(&job.lane, job.id));
        pile = held;
        if pile.is_empty() {
            continue;
        }
        let (queue, work) = (jobs.shared.queue, pile.clone());
        let settled = run_tx(&jobs.shared.pool, "settle_jobs", move |connection| {
            let work = work.clone();
            Box::pin(async move { settle_in_tx(connection, queue, &work).await })
        });
        match settled.await {
            Ok(due) => {
                pile.iter().for_each(|(job, _)| jobs.end(&job.lane, job.id));
                soonest = soonest.into_iter().chain(due).min();
            }
            Err(Error::Fenced { .. }) => piles.push(pile),
            Err(error) if error.is_transient() && !(error.is_timeout() && pile.len() > 1) => {
                tracing::warn!(%error, code = "UNAVAILABLE", "settling jobs failed; trying again");
                tokio::time::sleep(Duration::from_millis(200)).await;
                piles.push(pile);
            }
            Err(error) if pile.len() > 1 => {
                tracing::warn!(%error, jobs = pile.len(), "the database does not take jobs' ends; trying by halves");
                piles.push(pile.split_off(pile.len() / 2));
                piles.push(pile);
            }
            Err(error) => pile.into_iter().for_each(|(job, _)| take_up_later(jobs, job, &error)),
        }
    }
    if let Some(delay) = soonest {
        jobs.wake_in(delay);
    }
}

/// A job whose end the database refuses is worked on again, later: nobody else would carry it on.
fn take_up_later(jobs: &Jobs, job: Job, error: &Error) {
    tracing::error!(job = job.id, key = ?job.key, %error, code = "CONSISTENCY_ERROR", "the end of a job is refused");
    let jobs = jobs.clone();
    tokio::spawn(async move {
        tokio::time::sleep(REFUSED_RETRY_INTERVAL).await;
        jobs.end(&job.lane, job.id);
        jobs.wake_in(Duration::ZERO);
    });
}
