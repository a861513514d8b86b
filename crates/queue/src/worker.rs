//! Job worker: claims due jobs, runs a handler on them and settles them in batches.
//!
//! - Shape: batches of up to 1,000 settlements per transaction.
//! - Cost: one round trip per claim; a claim waits until half of the permits are free.
//! - Promise: at-least-once execution. A settlement is retried until it commits or its lane is
//!   lost; a crashed process's jobs are adopted with their lanes.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use store::{Coalescer, Error, Outage, to_storable_text, transaction};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::settle::{JobSettlement, settle_jobs_in_tx};
use crate::{Backoff, Job, JobQueue};

/// Wait before a job is handled again whose settlement the database refused.
const REFUSED_JOB_RETRY_INTERVAL: Duration = Duration::from_secs(15);

/// Outcome of handling a job. Outcomes of messages and of task attempts refer to this table:
///
/// | Outcome | Meaning | Counts an attempt? | What happens next |
/// | --- | --- | --- | --- |
/// | `Done` | completed | - | the job is deleted |
/// | `Failed` | transient failure | yes | retried after a backoff, until `max_attempts` |
/// | `Deferred` | not possible yet | no | retried after the given delay, without limit |
/// | `Dead` | permanent failure | yes | the job becomes a dead letter |
/// | `LaneLost` | the lane was lost | no | nothing is settled: the lane's new holder has the job |
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobOutcome {
    /// Completed: the job is deleted.
    Done,
    /// Failed; a retry may succeed.
    Failed(String),
    /// Failed permanently: the job becomes a dead letter.
    Dead(String),
    /// Not yet possible: retried after this delay without counting an attempt.
    Deferred(Duration, String),
    /// The job's lane was lost while it was handled: its new holder handles the job.
    LaneLost,
}

/// Handler of a queue's jobs. A job may be handled more than once (a crash, a lost lane):
/// effects must be idempotent.
pub trait JobHandler: Send + Sync + 'static {
    /// Handles one job. A panic counts as [`JobOutcome::Dead`].
    fn handle(&self, job: &Job) -> impl Future<Output = JobOutcome> + Send;
}

/// Settings of a worker.
#[derive(Debug, Clone, Copy)]
pub struct JobWorkerOptions {
    /// Maximum number of jobs in work.
    pub concurrency: usize,
    /// Backoff between failed attempts.
    pub backoff: Backoff,
    /// Number of failed attempts after which a job becomes a dead letter.
    pub max_attempts: u32,
}

/// Handle of a running worker.
pub struct JobWorker {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl JobWorker {
    /// Starts a worker on the lanes of `jobs`.
    pub fn start(jobs: JobQueue, handler: Arc<impl JobHandler>, options: JobWorkerOptions) -> Self {
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(run_worker(jobs, handler, options, stopped));
        Self { stop, task }
    }

    /// Stops claiming and waits for the jobs in work.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let _ = self.task.await;
    }
}

async fn run_worker(
    jobs: JobQueue,
    handler: Arc<impl JobHandler>,
    options: JobWorkerOptions,
    mut stop: watch::Receiver<bool>,
) {
    let settling = jobs.clone();
    let coalescer =
        Coalescer::spawn("settle_jobs", options.concurrency.max(1) * 2, 1000, move |batch| {
            let jobs = settling.clone();
            async move { settle_batch(&jobs, batch).await }
        });
    let (free, outage) = (Arc::new(Semaphore::new(options.concurrency)), Outage::default());
    loop {
        // Claims for single jobs would cost a round trip each: wait until a good part of
        // the permits is free.
        let free_permits = free.available_permits();
        let claimed = claim_jobs(&jobs, free_permits, &outage).await;
        let full = claimed.len() == free_permits;
        for job in claimed {
            let Ok(permit) = free.clone().acquire_owned().await else { return };
            let (handler, coalescer, jobs) = (handler.clone(), coalescer.clone(), jobs.clone());
            tokio::spawn(async move {
                let outcome = handle_job(&*handler, &job).await;
                match decide_settlement(&job, outcome, &options) {
                    Some(settlement) => drop(coalescer.push((job, settlement)).await),
                    None => jobs.end_job(&job.lane, job.id),
                }
                drop(permit);
            });
        }
        tokio::select! {
            () = wait_for_next_claim(&jobs, &free, options.concurrency, full) => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    // When all permits are free, all outcomes are in the coalescer.
    let _ = free.acquire_many(u32::try_from(options.concurrency).unwrap_or(u32::MAX)).await;
    coalescer.wait_until_drained().await;
}

/// Claims jobs; none after an error.
async fn claim_jobs(jobs: &JobQueue, free_permits: usize, outage: &Outage) -> Vec<Job> {
    match jobs.claim(free_permits).await {
        Ok(claimed) => {
            outage.record_success(|lasted| {
                tracing::info!(seconds = lasted.as_secs(), "jobs are claimed again")
            });
            claimed
        }
        Err(error) => {
            outage.record_failure(|failures| {
                tracing::warn!(%error, failures, code = "UNAVAILABLE", "claiming jobs failed; it is tried again");
            });
            Vec::new()
        }
    }
}

/// Panic containment: a panic makes the job a dead letter.
async fn handle_job(handler: &impl JobHandler, job: &Job) -> JobOutcome {
    let outcome = store::panics::catch_panic(handler.handle(job)).await;
    outcome.unwrap_or_else(|_| JobOutcome::Dead("LOGIC_ERROR: the handler panicked".to_owned()))
}

/// Waits until a claim is worth its round trip: half of the permits are free, and a job may be due.
async fn wait_for_next_claim(jobs: &JobQueue, free: &Semaphore, concurrency: usize, is_full: bool) {
    let half = u32::try_from(concurrency.div_ceil(2)).unwrap_or(u32::MAX);
    drop(free.acquire_many(half).await);
    if !is_full {
        jobs.wait_until_due().await;
    }
}

/// `None`: the lane is lost, and its new holder settles the job.
fn decide_settlement(
    job: &Job,
    outcome: JobOutcome,
    options: &JobWorkerOptions,
) -> Option<JobSettlement> {
    Some(match outcome {
        JobOutcome::LaneLost => return None,
        JobOutcome::Done => JobSettlement::Complete,
        JobOutcome::Dead(reason) => JobSettlement::Bury { reason: to_storable_text(&reason) },
        JobOutcome::Failed(reason) if job.attempts + 1 >= options.max_attempts => {
            JobSettlement::Bury { reason: to_storable_text(&reason) }
        }
        JobOutcome::Deferred(delay, reason) => {
            let if_hurried = options.backoff.random_delay(1);
            JobSettlement::Retry {
                delay,
                hurried_delay: if_hurried,
                reason: to_storable_text(&reason),
                counts_attempt: false,
            }
        }
        JobOutcome::Failed(reason) => {
            let delay = options.backoff.random_delay(job.recent_failures() + 1);
            let if_hurried = options.backoff.random_delay(1);
            JobSettlement::Retry {
                delay,
                hurried_delay: if_hurried,
                reason: to_storable_text(&reason),
                counts_attempt: true,
            }
        }
    })
}

/// Settles a batch, retrying transient errors without limit. Jobs of lost lanes are dropped:
/// another process owns them. A batch that is refused permanently or times out is halved, so that
/// one bad job does not block the others and a slow database gets smaller transactions.
async fn settle_batch(jobs: &JobQueue, batch: Vec<(Job, JobSettlement)>) {
    let grouped = batch.iter().any(|(job, _)| job.group.is_some());
    let mut soonest = grouped.then_some(Duration::ZERO);
    let mut piles = vec![batch];
    while let Some(mut pile) = piles.pop() {
        let (held, lost): (Vec<_>, Vec<_>) =
            pile.into_iter().partition(|(job, _)| !job.lane.is_lost());
        lost.iter().for_each(|(job, _)| jobs.end_job(&job.lane, job.id));
        pile = held;
        if pile.is_empty() {
            continue;
        }
        let queue = jobs.shared.queue;
        let settled = transaction("settle_jobs", pile.clone())
            .run(&jobs.shared.pool, move |connection, work| {
                Box::pin(settle_jobs_in_tx(connection, queue, work))
            })
            .await;
        match settled {
            Ok(due) => {
                pile.iter().for_each(|(job, _)| jobs.end_job(&job.lane, job.id));
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
            Err(error) => {
                pile.into_iter().for_each(|(job, _)| retry_refused_job(jobs, job, &error))
            }
        }
    }
    if let Some(delay) = soonest {
        jobs.wake_in(delay);
    }
}

/// Handles a job again later after the database refused its settlement: no other process would.
fn retry_refused_job(jobs: &JobQueue, job: Job, error: &Error) {
    tracing::error!(job = job.id.get(), key = ?job.key, %error, code = "CONSISTENCY_ERROR", "the end of a job is refused");
    let jobs = jobs.clone();
    tokio::spawn(async move {
        tokio::time::sleep(REFUSED_JOB_RETRY_INTERVAL).await;
        jobs.end_job(&job.lane, job.id);
        jobs.wake_in(Duration::ZERO);
    });
}
