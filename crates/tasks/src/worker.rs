//! Task workers: bring tasks from their queues to their handlers and end the attempts.
//!
//! - Promise: at-least-once. A job or message is acknowledged only after the attempt's end is
//!   stored. After a worker's death its next receiver finds the task ended, or runs it again.

mod fifo;
mod jobs;

use std::sync::Arc;
use std::time::Duration;

use queue::Backoff;
use queue::fifo::FifoConsumerOptions;
use serde_json::Value as Json;
use store::to_storable_text;
use tokio::time::Instant;

use crate::attempt::{
    AttemptEnd, BeginAttemptOutcome, BegunAttempt, EndAttemptOutcome, begin_attempt, end_attempt,
};
use crate::handler::{TaskAttempt, TaskAttemptError, TaskHandlers};
use crate::report::TaskStatusReporter;
use crate::running::RunningAttempts;
use crate::task::TaskRef;
use crate::{TaskId, TaskStatus, TaskStore};

pub use fifo::{ensure_task_queues, run_task_worker};
pub use jobs::{ActionWorker, ActionWorkerOptions};

/// Attempts allowed beyond `max_attempts` if workers died in them: a task that keeps killing its
/// worker is given up.
const MAX_LOST_ATTEMPTS: u32 = 20;
/// Maximum postponement per attempt, whatever the external party requests.
const MAX_POSTPONEMENT: Duration = Duration::from_secs(3600);
/// Maximum total postponement; beyond it, a postponed attempt counts as failed.
const MAX_TOTAL_POSTPONEMENT: Duration = Duration::from_secs(24 * 3600);

/// Options of a task worker.
#[derive(Debug, Clone, Copy)]
pub struct TaskWorkerOptions {
    /// Options of the FIFO queue consumer.
    pub consumer: FifoConsumerOptions,
    /// Backoff between failed attempts.
    pub backoff: Backoff,
    /// Attempts before a task is given up.
    pub max_attempts: u32,
}

impl Default for TaskWorkerOptions {
    fn default() -> Self {
        Self {
            consumer: FifoConsumerOptions {
                concurrency: 4,
                visibility_timeout: Duration::from_secs(15),
                shutdown_timeout: Duration::from_secs(20),
            },
            backoff: Backoff {
                first_delay: Duration::from_secs(2),
                max_delay: Duration::from_secs(300),
                jitter: 0.2,
            },
            max_attempts: 5,
        }
    }
}

/// Runs attempts; clones share state.
#[derive(Clone)]
pub struct TaskExecutor {
    /// Tasks in the control database.
    pub tasks: TaskStore,
    /// Handlers by task type.
    pub handlers: TaskHandlers,
    /// Receives status changes in their transaction.
    pub reporter: Arc<dyn TaskStatusReporter>,
    /// Running attempts of this process, for cancellation.
    pub running: RunningAttempts,
}

/// Outcome of an attempt for the queue; see the table of [`queue::JobOutcome`].
#[derive(Debug)]
enum TaskAttemptOutcome {
    /// The task has ended, or this job or message no longer matters.
    Done,
    /// Failed, with the reason; the attempt counts. A FIFO message is retried after this delay; a
    /// job has the job queue's backoff instead.
    Failed(Duration, String),
    /// Not possible yet: retry after this delay; the attempt does not count.
    Deferred(Duration, String),
    /// Given up, with the reason.
    Dead(String),
}

/// Attempt limits of a task.
#[derive(Debug, Clone, Copy)]
struct AttemptLimits {
    /// Whether this attempt may run the handler.
    allowed: bool,
    /// Whether a failure of this attempt is final.
    last: bool,
}

impl TaskExecutor {
    /// Runs one attempt at a task. `limits`: computed from the attempt number since the last manual
    /// retry and the task's limit.
    async fn attempt_task(
        &self,
        task: TaskRef,
        backoff: Backoff,
        limits: impl Fn(u32, Option<u32>) -> AttemptLimits,
    ) -> TaskAttemptOutcome {
        let task_id = task.task_id;
        let begun = match begin_attempt(&self.tasks.pool, task, &self.reporter).await {
            Ok(BeginAttemptOutcome::Begun(begun)) => begun,
            Ok(BeginAttemptOutcome::TaskEnded) => return TaskAttemptOutcome::Done,
            Ok(BeginAttemptOutcome::UnknownTask) => {
                return TaskAttemptOutcome::Dead(format!("NOT_FOUND: there is no task {task_id}"));
            }
            Err(error) => {
                tracing::warn!(task_id = task_id.get(), %error, code = "UNAVAILABLE", "a task could not be begun");
                return TaskAttemptOutcome::Failed(backoff.random_delay(1), error.to_string());
            }
        };
        let limits = limits(begun.since_retry, begun.max_attempts);
        let (started, number) = (Instant::now(), begun.number);
        let task_type = begun.task_type.clone();
        let handler_result = if limits.allowed {
            store::fail_point("task_begun");
            match self.run_handler(task_id, &begun).await {
                Some(done) => done,
                // Cancelled: the status is already stored.
                None => return TaskAttemptOutcome::Done,
            }
        } else {
            let reason =
                format!("its worker was lost in attempt {}", begun.since_retry.saturating_sub(1));
            Err(TaskAttemptError::Permanent(reason))
        };
        store::fail_point("task_done");
        let seconds = started.elapsed().as_secs_f64();
        metrics::histogram!("task_seconds", "task_type" => task_type.clone()).record(seconds);
        let (bounded_result, postponed) = limit_postponement(handler_result, begun.postponed);
        let (ending, attempt_outcome) = conclude_attempt(
            task,
            number,
            bounded_result,
            backoff.random_delay(begun.since_retry),
            limits.last,
        );
        let ending = AttemptEnd { postponed, ..ending };
        let outcome = match ending.status {
            TaskStatus::Waiting if ending.is_deferred => "waits",
            TaskStatus::Waiting => "retried",
            status => status.name(),
        };
        let error = ending.error.clone();
        tracing::debug!(
            task_id = task_id.get(),
            task_type,
            number,
            outcome,
            error,
            "a task's attempt has ended"
        );
        metrics::counter!("tasks_total", "task_type" => task_type, "outcome" => outcome)
            .increment(1);
        let ended = end_attempt(&self.tasks.pool, ending, &self.reporter).await;
        store::fail_point("task_ended");
        match ended {
            Ok(EndAttemptOutcome::Stored) => attempt_outcome,
            Ok(EndAttemptOutcome::Superseded) => TaskAttemptOutcome::Failed(
                backoff.random_delay(1),
                "another attempt has begun".to_owned(),
            ),
            Ok(EndAttemptOutcome::TaskEnded) => TaskAttemptOutcome::Done,
            Err(error) => {
                tracing::warn!(task_id = task_id.get(), %error, code = "UNAVAILABLE", "a task's end could not be stored");
                TaskAttemptOutcome::Failed(backoff.random_delay(number), error.to_string())
            }
        }
    }

    /// Runs the handler; `None` if the task is cancelled meanwhile.
    async fn run_handler(
        &self,
        task_id: TaskId,
        begun: &BegunAttempt,
    ) -> Option<Result<Json, TaskAttemptError>> {
        let tasks = self.tasks.clone();
        let attempt = TaskAttempt { task_id, number: begun.number, depth: begun.depth, tasks };
        let in_work = self.running.register(task_id, begun.number);
        let run = self.handlers.run(&begun.task_type, &attempt, begun.params.clone());
        let done = tokio::select! {
            done = store::panics::catch_panic(run) => done,
            () = in_work.cancellation.cancelled() => return None,
        };
        Some(done.unwrap_or_else(|_| {
            Err(TaskAttemptError::Permanent(
                "LOGIC_ERROR: the handler panicked; see the log".to_owned(),
            ))
        }))
    }
}

/// Bounds postponements. `so_far`: the total before this attempt; returns what this attempt adds.
fn limit_postponement(
    handler_result: Result<Json, TaskAttemptError>,
    so_far: Duration,
) -> (Result<Json, TaskAttemptError>, Duration) {
    match handler_result {
        Err(TaskAttemptError::Postponed(after, reason)) => {
            let after = after.min(MAX_POSTPONEMENT);
            match so_far.saturating_add(after) <= MAX_TOTAL_POSTPONEMENT {
                true => (Err(TaskAttemptError::Deferred(after, reason)), after),
                false => (Err(TaskAttemptError::Temporary(reason)), Duration::ZERO),
            }
        }
        done => (done, Duration::ZERO),
    }
}

fn conclude_attempt(
    task: TaskRef,
    number: u32,
    handler_result: Result<Json, TaskAttemptError>,
    delay: Duration,
    last: bool,
) -> (AttemptEnd, TaskAttemptOutcome) {
    let is_deferred = matches!(handler_result, Err(TaskAttemptError::Deferred(..)));
    let (status, error, outcome, attempt_outcome) = match handler_result {
        Ok(outcome) => (TaskStatus::Succeeded, None, Some(outcome), TaskAttemptOutcome::Done),
        Err(TaskAttemptError::Deferred(delay, reason)) => {
            let error = to_storable_text(&reason);
            let attempt_outcome = TaskAttemptOutcome::Deferred(delay, reason);
            (TaskStatus::Waiting, Some(error), None, attempt_outcome)
        }
        Err(TaskAttemptError::Temporary(reason)) if !last => {
            let error = to_storable_text(&reason);
            let attempt_outcome = TaskAttemptOutcome::Failed(delay, reason);
            (TaskStatus::Waiting, Some(error), None, attempt_outcome)
        }
        // `Postponed` was replaced by `limit_postponement`.
        Err(
            TaskAttemptError::Temporary(reason)
            | TaskAttemptError::Permanent(reason)
            | TaskAttemptError::Postponed(_, reason),
        ) => {
            let error = to_storable_text(&reason);
            (TaskStatus::Failed, Some(error), None, TaskAttemptOutcome::Dead(reason))
        }
    };
    let postponed = Duration::ZERO;
    let end = AttemptEnd { task, number, status, error, outcome, is_deferred, postponed };
    (end, attempt_outcome)
}
