//! Consumer of the job queue [`ACTION_TASK_QUEUE`]: tasks of action configs.

use std::sync::Arc;
use std::time::Duration;

use queue::{
    AdoptionProgress, Backoff, Job, JobHandler, JobOutcome, JobQueue, JobWorker, LaneAdopter,
    lane_class,
};
use store::{LeaseManager, LeaseOptions, PgNotificationHub, Result};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{AttemptLimits, MAX_LOST_ATTEMPTS, MAX_POSTPONEMENT, TaskAttemptOutcome, TaskExecutor};
use crate::action::{ACTION_TASK_QUEUE, parse_job_payload};

/// Capacity of the channel of adopted lanes.
const MAX_ADOPTED_LANES: usize = 64;

/// Options of an action task worker.
#[derive(Debug, Clone, Copy)]
pub struct ActionWorkerOptions {
    /// Maximum concurrent tasks.
    pub concurrency: usize,
    /// Backoff between failed attempts.
    pub backoff: Backoff,
    /// Failed attempts before a task without a limit is given up.
    pub max_attempts: u32,
    /// Lease of the process's lanes: after its expiry other processes take the tasks over.
    pub lease: LeaseOptions,
}

impl Default for ActionWorkerOptions {
    fn default() -> Self {
        Self {
            concurrency: 16,
            backoff: Backoff {
                first_delay: Duration::from_secs(1),
                max_delay: Duration::from_secs(300),
                jitter: 0.2,
            },
            max_attempts: 5,
            lease: LeaseOptions::default(),
        }
    }
}

/// A running worker of action tasks.
pub struct ActionWorker {
    worker: JobWorker,
    jobs: JobQueue,
}

impl ActionWorker {
    /// Starts on this process's lanes, and on those of dead processes. `notifications` must listen
    /// on [`queue::JOB_WAKE_CHANNEL`].
    pub async fn start(
        executor: TaskExecutor,
        notifications: &PgNotificationHub,
        options: ActionWorkerOptions,
    ) -> Result<Self> {
        let (adopted, arriving) = mpsc::channel(MAX_ADOPTED_LANES);
        let pool = executor.tasks.pool.clone();
        let claim_pool = executor.tasks.claim_pool.clone();
        let (leases, _) = LeaseManager::start(
            executor.tasks.lease_pool.clone(),
            options.lease,
            vec![lane_class(ACTION_TASK_QUEUE)],
            adopted,
        );
        // A lane holds only jobs: adoption needs no further work.
        let adopt: LaneAdopter =
            Arc::new(|_, _| Box::pin(std::future::ready(Ok(AdoptionProgress::Complete))));
        let jobs = JobQueue::start(
            pool,
            claim_pool,
            ACTION_TASK_QUEUE,
            leases,
            notifications,
            arriving,
            adopt,
        )
        .await?;
        let jobs = jobs.with_max_delay(2 * MAX_POSTPONEMENT);
        let queue_terms = queue::JobWorkerOptions {
            concurrency: options.concurrency,
            backoff: options.backoff,
            // Limited per task instead.
            max_attempts: u32::MAX,
        };
        let worker = JobWorker::start(
            jobs.clone(),
            Arc::new(ActionJobHandler { executor, options }),
            queue_terms,
        );
        Ok(Self { worker, jobs })
    }

    /// Stops claiming, waits `within` for running attempts, and releases all lanes, so that others
    /// take them over immediately.
    pub async fn stop(self, within: Duration) {
        let _ = timeout(within, self.worker.stop()).await;
        let left = timeout(Duration::from_secs(2), self.jobs.release_lanes()).await;
        if !matches!(left, Ok(Ok(()))) {
            tracing::warn!(
                code = "UNAVAILABLE",
                "lanes of tasks could not be given back; they expire soon"
            );
        }
    }
}

struct ActionJobHandler {
    executor: TaskExecutor,
    options: ActionWorkerOptions,
}

impl JobHandler for ActionJobHandler {
    async fn handle(&self, job: &Job) -> JobOutcome {
        let Some(called_for) = parse_job_payload(&job.payload) else {
            return JobOutcome::Dead("VALIDATION_ERROR: the job names no task".to_owned());
        };
        let attempt = self.executor.attempt_task(
            called_for,
            self.options.backoff,
            |number, own_max_attempts| {
                let max_attempts = own_max_attempts.unwrap_or(self.options.max_attempts);
                AttemptLimits {
                    allowed: number <= max_attempts + MAX_LOST_ATTEMPTS,
                    // The job counts failures only: a crash uses up no attempt.
                    last: job.attempts + 1 >= max_attempts,
                }
            },
        );
        let outcome = tokio::select! {
            outcome = attempt => outcome,
            () = job.lane.wait_until_lost() => return JobOutcome::LaneLost,
        };
        match outcome {
            TaskAttemptOutcome::Done => JobOutcome::Done,
            TaskAttemptOutcome::Failed(_, reason) => JobOutcome::Failed(reason),
            TaskAttemptOutcome::Deferred(delay, reason) => JobOutcome::Deferred(delay, reason),
            TaskAttemptOutcome::Dead(reason) => JobOutcome::Dead(reason),
        }
    }
}
