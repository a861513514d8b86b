//! Workers: receive tasks, run their handlers, end their attempts.
//!
//! Marked done only after it was done: a worker that dies in between leaves the message, and whoever gets it finds the
//! task ended, or does it again.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use queue::Backoff;
use queue::fifo::{
    Consumer, ConsumerTerms, FifoEngine, FifoError, Message, QueueTerms, Queues, Verdict, consume,
};
use serde_json::Value as Json;
use store::storable;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::handler::{Attempt, Handlers, TaskError};
use crate::task::{Begin, Begun, End, Status, begin, end, task_id};
use crate::{DEAD_LETTERS, QUEUE, Tasks};

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

/// Makes the queues of tasks if they are not there.
pub async fn ensure_queues(engine: &dyn FifoEngine) -> Result<Queues, FifoError> {
    // Workers give tasks up by themselves, with the reason: no redrive policy.
    let terms = QueueTerms { visibility: WorkerTerms::default().consumer.visibility, dead_letters: None };
    engine.ensure(DEAD_LETTERS, terms.clone()).await?;
    engine.ensure(QUEUE, terms).await?;
    Ok(Queues { queue: engine.open(QUEUE).await?, dead_letters: engine.open(DEAD_LETTERS).await? })
}

/// Works on tasks until `stop`; what is in work then has its grace, and is given back after it.
pub async fn work(
    queues: Queues,
    tasks: Tasks,
    handlers: Handlers,
    terms: WorkerTerms,
    stop: CancellationToken,
) {
    let worker = Arc::new(Worker { tasks, handlers, terms });
    consume(queues, worker, terms.consumer, stop).await;
}

struct Worker {
    tasks: Tasks,
    handlers: Handlers,
    terms: WorkerTerms,
}

impl Consumer for Worker {
    async fn consume(&self, message: &Message) -> Verdict {
        let Some(task_id) = task_id(&message.body) else {
            return Verdict::Dead("VALIDATION_ERROR: the message names no task".to_owned());
        };
        match begin(&self.tasks.pool, task_id).await {
            Ok(Begin::Begun(begun)) => self.attempt(task_id, begun).await,
            Ok(Begin::Ended) => Verdict::Done,
            Ok(Begin::Unknown) => Verdict::Dead(format!("NOT_FOUND: there is no task {task_id}")),
            Err(error) => {
                tracing::warn!(task_id, %error, code = "UNAVAILABLE", "a task could not be begun");
                Verdict::Again(self.terms.backoff.random_delay(1))
            }
        }
    }
}

impl Worker {
    async fn attempt(&self, task_id: i64, begun: Begun) -> Verdict {
        let Begun { number, task_type, params } = begun;
        let started = Instant::now();
        let done = if number > self.terms.max_attempts {
            let reason = format!("its worker was lost in attempt {}", self.terms.max_attempts);
            Err(TaskError::Permanent(reason))
        } else {
            store::fail_point("task_begun");
            self.run(task_id, number, &task_type, params).await
        };
        store::fail_point("task_done");
        let seconds = started.elapsed().as_secs_f64();
        metrics::histogram!("task_seconds", "task_type" => task_type.clone()).record(seconds);
        let (ending, verdict) = self.judge(task_id, number, done);
        let outcome = if ending.status == Status::Waiting { "retried" } else { ending.status.name() };
        tracing::debug!(
            task_id,
            task_type,
            number,
            outcome,
            error = ending.error,
            "a task's attempt has ended"
        );
        metrics::counter!("tasks_total", "task_type" => task_type, "outcome" => outcome).increment(1);
        let ended = end(&self.tasks.pool, ending).await;
        store::fail_point("task_ended");
        match ended {
            Ok(true) => verdict,
            // A newer attempt has it, or it was cancelled: the message is that one's, or nobody's.
            Ok(false) => Verdict::Done,
            Err(error) => {
                tracing::warn!(task_id, %error, code = "UNAVAILABLE", "a task's end could not be stored");
                Verdict::Again(self.terms.backoff.random_delay(number))
            }
        }
    }

    async fn run(&self, task_id: i64, number: u32, task_type: &str, params: Json) -> Result<Json, TaskError> {
        let attempt = Attempt { task_id, number, tasks: self.tasks.clone() };
        let run = self.handlers.run(task_type, &attempt, params);
        AssertUnwindSafe(run).catch_unwind().await.unwrap_or_else(|_| {
            Err(TaskError::Permanent("LOGIC_ERROR: the handler panicked; see the log".to_owned()))
        })
    }

    fn judge(&self, task_id: i64, number: u32, done: Result<Json, TaskError>) -> (End, Verdict) {
        let end = |status, error, outcome| End { task_id, number, status, error, outcome };
        match done {
            Ok(outcome) => (end(Status::Succeeded, None, Some(outcome)), Verdict::Done),
            Err(TaskError::Temporary(reason)) if number < self.terms.max_attempts => {
                let delay = self.terms.backoff.random_delay(number);
                (end(Status::Waiting, Some(storable(&reason)), None), Verdict::Again(delay))
            }
            Err(TaskError::Temporary(reason) | TaskError::Permanent(reason)) => {
                (end(Status::Failed, Some(storable(&reason)), None), Verdict::Dead(reason))
            }
        }
    }
}
