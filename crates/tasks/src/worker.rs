//! Workers: bring tasks from their queues to their handlers, and end their attempts.
//!
//! Marked done only after it was done: a worker that dies in between leaves the message or job, and whoever gets it finds the
//! task ended, or does it again.

mod fifo;
mod jobs;

use std::sync::Arc;
use std::time::Duration;

use queue::Backoff;
use queue::fifo::ConsumerTerms;
use serde_json::Value as Json;
use store::storable;
use tokio::time::Instant;

use crate::attempt::{Begin, Begun, End, Ending, begin, end};
use crate::handler::{Attempt, Handlers, TaskError};
use crate::report::Reporter;
use crate::running::Running;
use crate::{Status, Tasks};

pub use fifo::{ensure_queues, work};
pub use jobs::{ActionTerms, ActionWorker};

/// A worker that is lost with its task again and again is taken for that task's doing, beyond its failed attempts.
const MOST_LOST: u32 = 20;
/// The longest that a task is postponed for at once because somebody asks for it, however long they would like.
const MAX_POSTPONED: Duration = Duration::from_secs(3600);
/// And in all: from then on such an attempt is a failed one.
const MAX_POSTPONED_IN_ALL: Duration = Duration::from_secs(24 * 3600);

/// How workers work.
#[derive(Debug, Clone, Copy)]
pub struct WorkerTerms {
    /// How the queue is consumed.
    pub consumer: ConsumerTerms,
    /// Waits between attempts.
    pub backoff: Backoff,
    /// Attempts after which a task is given up.
    pub max_attempts: u32,
}

impl Default for WorkerTerms {
    fn default() -> Self {
        Self {
            consumer: ConsumerTerms {
                concurrency: 4,
                visibility: Duration::from_secs(15),
                grace: Duration::from_secs(20),
            },
            backoff: Backoff { first: Duration::from_secs(2), most: Duration::from_secs(300), jitter: 0.2 },
            max_attempts: 5,
        }
    }
}

/// What attempts need.
#[derive(Clone)]
pub struct Desk {
    /// The tasks.
    pub tasks: Tasks,
    /// What carries them out.
    pub handlers: Handlers,
    /// Hears of changes.
    pub reporter: Arc<dyn Reporter>,
    /// What is in work.
    pub running: Running,
}

/// What became of an attempt.
#[derive(Debug)]
enum Ended {
    /// The task has ended well, or is nobody's business here any more.
    Done,
    /// It is to be tried again, after this long, because of this.
    Again(Duration, String),
    /// It was not its turn: begun again after this long, with no attempt used up.
    Later(Duration, String),
    /// Given up, because of this.
    Dead(String),
}

/// When a task is given up.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Whether this attempt may still be made, and if not, why.
    allowed: bool,
    /// Whether there is none after this one.
    last: bool,
}

impl Desk {
    /// Makes one attempt at a task. `limits`: from the attempt's number since the last retry by hand, and the task's own limit.
    async fn attempt(
        &self,
        (task_id, retries): (i64, i32),
        backoff: Backoff,
        limits: impl Fn(u32, Option<u32>) -> Limits,
    ) -> Ended {
        let begun = match begin(&self.tasks.pool, task_id, retries, &self.reporter).await {
            Ok(Begin::Begun(begun)) => begun,
            Ok(Begin::Ended) => return Ended::Done,
            Ok(Begin::Unknown) => return Ended::Dead(format!("NOT_FOUND: there is no task {task_id}")),
            Err(error) => {
                tracing::warn!(task_id, %error, code = "UNAVAILABLE", "a task could not be begun");
                return Ended::Again(backoff.random_delay(1), error.to_string());
            }
        };
        let limits = limits(begun.since_retry, begun.max_attempts);
        let (started, number) = (Instant::now(), begun.number);
        let task_type = begun.task_type.clone();
        let done = if limits.allowed {
            store::fail_point("task_begun");
            match self.run(task_id, &begun).await {
                Some(done) => done,
                // Cancelled: that is stored already.
                None => return Ended::Done,
            }
        } else {
            let reason = format!("its worker was lost in attempt {}", begun.since_retry.saturating_sub(1));
            Err(TaskError::Permanent(reason))
        };
        store::fail_point("task_done");
        let seconds = started.elapsed().as_secs_f64();
        metrics::histogram!("task_seconds", "task_type" => task_type.clone()).record(seconds);
        let (done, postponed) = bounded(done, begun.postponed);
        let (ending, verdict) =
            judge((task_id, retries), number, done, backoff.random_delay(begun.since_retry), limits.last);
        let ending = End { postponed, ..ending };
        let outcome = match ending.status {
            Status::Waiting if ending.waits => "waits",
            Status::Waiting => "retried",
            status => status.name(),
        };
        let error = ending.error.clone();
        tracing::debug!(task_id, task_type, number, outcome, error, "a task's attempt has ended");
        metrics::counter!("tasks_total", "task_type" => task_type, "outcome" => outcome).increment(1);
        let ended = end(&self.tasks.pool, ending, &self.reporter).await;
        store::fail_point("task_ended");
        match ended {
            Ok(Ending::Stored) => verdict,
            Ok(Ending::Superseded) => {
                Ended::Again(backoff.random_delay(1), "another attempt has begun".to_owned())
            }
            Ok(Ending::Over) => Ended::Done,
            Err(error) => {
                tracing::warn!(task_id, %error, code = "UNAVAILABLE", "a task's end could not be stored");
                Ended::Again(backoff.random_delay(number), error.to_string())
            }
        }
    }

    /// What the handler says; nothing if the task is cancelled meanwhile.
    async fn run(&self, task_id: i64, begun: &Begun) -> Option<Result<Json, TaskError>> {
        let tasks = self.tasks.clone();
        let attempt = Attempt { task_id, number: begun.number, depth: begun.depth, tasks };
        let in_work = self.running.begin(task_id, begun.number);
        let run = self.handlers.run(&begun.task_type, &attempt, begun.params.clone());
        let done = tokio::select! {
            done = store::panics::caught(run) => done,
            () = in_work.cancelled.cancelled() => return None,
        };
        Some(done.unwrap_or_else(|_| {
            Err(TaskError::Permanent("LOGIC_ERROR: the handler panicked; see the log".to_owned()))
        }))
    }
}

/// Puts nothing off for ever. `so_far`: how long it has been; the answer has how long it is now.
fn bounded(done: Result<Json, TaskError>, so_far: Duration) -> (Result<Json, TaskError>, Duration) {
    match done {
        Err(TaskError::PutOff(after, reason)) => {
            let after = after.min(MAX_POSTPONED);
            match so_far.saturating_add(after) <= MAX_POSTPONED_IN_ALL {
                true => (Err(TaskError::Later(after, reason)), after),
                false => (Err(TaskError::Temporary(reason)), Duration::ZERO),
            }
        }
        done => (done, Duration::ZERO),
    }
}

fn judge(
    (task_id, retries): (i64, i32),
    number: u32,
    done: Result<Json, TaskError>,
    delay: Duration,
    last: bool,
) -> (End, Ended) {
    let waits = matches!(done, Err(TaskError::Later(..)));
    let end = |status, error, outcome| {
        let postponed = Duration::ZERO;
        End { task_id, retries, number, status, error, outcome, waits, postponed }
    };
    match done {
        Ok(outcome) => (end(Status::Succeeded, None, Some(outcome)), Ended::Done),
        Err(TaskError::Later(delay, reason)) => {
            (end(Status::Waiting, Some(storable(&reason)), None), Ended::Later(delay, reason))
        }
        Err(TaskError::Temporary(reason)) if !last => {
            (end(Status::Waiting, Some(storable(&reason)), None), Ended::Again(delay, reason))
        }
        // `bounded` leaves nothing put off.
        Err(TaskError::Temporary(reason) | TaskError::Permanent(reason) | TaskError::PutOff(_, reason)) => {
            (end(Status::Failed, Some(storable(&reason)), None), Ended::Dead(reason))
        }
    }
}
