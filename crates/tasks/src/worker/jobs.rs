//! Tasks that come through the job queue [`ACTIONS`]: those of action configs.

use std::sync::Arc;
use std::time::Duration;

use queue::{Adopt, Adoption, Backoff, Handler, Job, Jobs, Outcome, Worker, lane_class};
use store::{LeaseTerms, Leases, Notifications, Result};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Desk, Ended, Limits, MAX_POSTPONED, MOST_LOST};
use crate::action::{ACTIONS, called_for};

/// Lanes taken over and not yet looked into.
const ADOPTED: usize = 64;

/// How workers of action tasks work.
#[derive(Debug, Clone, Copy)]
pub struct ActionTerms {
    /// Tasks in work at a time.
    pub concurrency: usize,
    /// Waits between attempts.
    pub backoff: Backoff,
    /// Failed attempts after which a task is given up that does not say so itself.
    pub max_attempts: u32,
    /// How long the process may be silent before others take its tasks over.
    pub lease: LeaseTerms,
}

impl Default for ActionTerms {
    fn default() -> Self {
        Self {
            concurrency: 16,
            backoff: Backoff { first: Duration::from_secs(1), most: Duration::from_secs(300), jitter: 0.2 },
            max_attempts: 5,
            lease: LeaseTerms::default(),
        }
    }
}

/// A running worker.
pub struct ActionWorker {
    worker: Worker,
    jobs: Jobs,
}

impl ActionWorker {
    /// Starts working on this process's tasks, and on those of processes that are gone. `notifications` must listen on
    /// [`queue::WAKE_CHANNEL`].
    pub async fn start(desk: Desk, notifications: &Notifications, terms: ActionTerms) -> Result<Self> {
        let (adopted, arriving) = mpsc::channel(ADOPTED);
        let pool = desk.tasks.pool.clone();
        let (leases, _) =
            Leases::start(desk.tasks.leases.clone(), terms.lease, vec![lane_class(ACTIONS)], adopted);
        // Jobs are all there is in a lane.
        let adopt: Adopt = Arc::new(|_, _| Box::pin(std::future::ready(Ok(Adoption::Complete))));
        let jobs = Jobs::start(pool, ACTIONS, leases, notifications, arriving, adopt).await?;
        let jobs = jobs.waiting_at_most(2 * MAX_POSTPONED);
        let queue_terms = queue::WorkerTerms {
            concurrency: terms.concurrency,
            backoff: terms.backoff,
            // Each task has its own.
            max_attempts: u32::MAX,
        };
        let worker = Worker::start(jobs.clone(), Arc::new(Actions { desk, terms }), queue_terms);
        Ok(Self { worker, jobs })
    }

    /// Claims nothing more, waits so long for what is in work, and gives everything back: others have it at once.
    pub async fn stop(self, within: Duration) {
        let _ = timeout(within, self.worker.stop()).await;
        let left = timeout(Duration::from_secs(2), self.jobs.leave()).await;
        if !matches!(left, Ok(Ok(()))) {
            tracing::warn!(code = "UNAVAILABLE", "lanes of tasks could not be given back; they expire soon");
        }
    }
}

struct Actions {
    desk: Desk,
    terms: ActionTerms,
}

impl Handler for Actions {
    async fn handle(&self, job: &Job) -> Outcome {
        let Some(called_for) = called_for(&job.payload) else {
            return Outcome::Hopeless("VALIDATION_ERROR: the job names no task".to_owned());
        };
        // A crash uses up no attempt.
        let failures = job.attempts;
        let limits = |number: u32, most: Option<u32>| {
            let most = most.unwrap_or(self.terms.max_attempts);
            Limits { allowed: number <= most + MOST_LOST, last: failures + 1 >= most }
        };
        let ended = tokio::select! {
            ended = self.desk.attempt(called_for, self.terms.backoff, limits) => ended,
            // Whoever has the lane now has the task, too.
            () = job.lane.lost() => Ended::Done,
        };
        match ended {
            Ended::Done => Outcome::Done,
            Ended::Again(_, reason) => Outcome::Failed(reason),
            Ended::Later(delay, reason) => Outcome::Later(delay, reason),
            Ended::Dead(reason) => Outcome::Hopeless(reason),
        }
    }
}
