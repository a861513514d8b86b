//! Tasks that come through the job queue [`ACTION_TASK_QUEUE`]: those of action configs.

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

/// Lanes taken over and not yet looked into.
const MAX_ADOPTED_LANES: usize = 64;

/// How workers of action tasks work.
#[derive(Debug, Clone, Copy)]
pub struct ActionWorkerOptions {
    /// Tasks in work at a time.
    pub concurrency: usize,
    /// Waits between attempts.
    pub backoff: Backoff,
    /// Failed attempts after which a task is given up that does not say so itself.
    pub max_attempts: u32,
    /// How long the process may be silent before others take its tasks over.
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

/// A running worker.
pub struct ActionWorker {
    worker: JobWorker,
    jobs: JobQueue,
}

impl ActionWorker {
    /// Starts working on this process's tasks, and on those of processes that are gone. `notifications` must listen on
    /// [`queue::JOB_WAKE_CHANNEL`].
    pub async fn start(
        executor: TaskExecutor,
        notifications: &PgNotificationHub,
        options: ActionWorkerOptions,
    ) -> Result<Self> {
        let (adopted, arriving) = mpsc::channel(MAX_ADOPTED_LANES);
        let pool = executor.tasks.pool.clone();
        let (leases, _) = LeaseManager::start(
            executor.tasks.lease_pool.clone(),
            options.lease,
            vec![lane_class(ACTION_TASK_QUEUE)],
            adopted,
        );
        // Jobs are all there is in a lane.
        let adopt: LaneAdopter =
            Arc::new(|_, _| Box::pin(std::future::ready(Ok(AdoptionProgress::Complete))));
        let jobs = JobQueue::start(pool, ACTION_TASK_QUEUE, leases, notifications, arriving, adopt)
            .await?;
        let jobs = jobs.with_max_delay(2 * MAX_POSTPONEMENT);
        let queue_terms = queue::JobWorkerOptions {
            concurrency: options.concurrency,
            backoff: options.backoff,
            // Each task has its own.
            max_attempts: u32::MAX,
        };
        let worker = JobWorker::start(
            jobs.clone(),
            Arc::new(ActionJobHandler { executor, options }),
            queue_terms,
        );
        Ok(Self { worker, jobs })
    }

    /// Claims nothing more, waits so long for what is in work, and gives everything back: others have it at once.
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
        // A crash uses up no attempt.
        let failures = job.attempts;
        let limits = |number: u32, own_max_attempts: Option<u32>| {
            let max_attempts = own_max_attempts.unwrap_or(self.options.max_attempts);
            AttemptLimits {
                allowed: number <= max_attempts + MAX_LOST_ATTEMPTS,
                last: failures + 1 >= max_attempts,
            }
        };
        let ended = tokio::select! {
            ended = self.executor.attempt_task(called_for, self.options.backoff, limits) => ended,
            // Whoever has the lane now has the task, too.
            () = job.lane.wait_until_lost() => TaskAttemptOutcome::Done,
        };
        match ended {
            TaskAttemptOutcome::Done => JobOutcome::Done,
            TaskAttemptOutcome::RetryAfter(_, reason) => JobOutcome::Failed(reason),
            TaskAttemptOutcome::Deferred(delay, reason) => JobOutcome::RetryAfter(delay, reason),
            TaskAttemptOutcome::Dead(reason) => JobOutcome::Dead(reason),
        }
    }
}
