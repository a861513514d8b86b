//! One message: read, carried out, answered; in this order, whatever is in it.

use std::sync::Arc;
use std::time::Duration;

use queue::Backoff;
use queue::fifo::{Consumer, FifoError, FifoQueue, Message, NewMessage, Verdict};
use serde_json::{Map, Value as Json, json};
use store::Outage;

use super::handler::{Handlers, Outcome, Raw};
use super::memory::Memory;
use crate::protocol::{ANSWER, Action, Answer, Failure, JOB_NAME, Numbered, numbered};

/// When nothing can be remembered or answered, the message comes again after this.
const PAUSE: Duration = Duration::from_secs(1);
/// And that grows to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Carries out the tasks of one queue.
pub(super) struct Worker {
    pub(super) handlers: Handlers,
    pub(super) memory: Arc<dyn Memory>,
    /// With environment and ending.
    pub(super) queue: String,
    pub(super) answers: Arc<dyn FifoQueue>,
    /// How soon a task comes again after a temporary error.
    pub(super) again: Duration,
    pub(super) outage: Outage,
}

/// The more often it has come the later: what was received too often becomes a dead letter.
fn again(first: Duration, message: &Message) -> Verdict {
    let backoff = Backoff { first, most: LONGEST_PAUSE.max(first), jitter: 0.2 };
    Verdict::Again(backoff.random_delay(message.receives))
}

/// A task as it is read.
struct Task {
    task: String,
    action: Action,
    params: Json,
    state: Map<String, Json>,
}

impl Consumer for Worker {
    async fn consume(&self, message: &Message) -> Verdict {
        let Some(Numbered { block_id, body }) = numbered(&message.body) else {
            self.count("unreadable");
            return Verdict::Dead("VALIDATION_ERROR: the message says no block_id".to_owned());
        };
        let remembered = match message.receives {
            0 | 1 => Ok(None),
            _ => self.memory.answer(&self.queue, block_id).await,
        };
        let answer = match remembered {
            Ok(Some(answer)) => {
                self.count("repeated");
                answer
            }
            Ok(None) => match self.carry_out(body, block_id).await {
                Ok(outcome) => match self.remember(block_id, outcome).await {
                    Ok(answer) => answer,
                    Err(reason) => return self.later(message, block_id, &reason),
                },
                Err(reason) => {
                    self.count("temporary");
                    tracing::info!(
                        queue = self.queue,
                        block_id,
                        reason,
                        "a task failed for now; it comes again"
                    );
                    return again(self.again, message);
                }
            },
            Err(reason) => return self.later(message, block_id, &reason),
        };
        match self.send(message, block_id, answer).await {
            Ok(()) => {
                self.outage.worked(|lasted| {
                    tracing::info!(
                        queue = self.queue,
                        seconds = lasted.as_secs(),
                        "tasks are answered again"
                    );
                });
                Verdict::Done
            }
            Err(error) => self.later(message, block_id, &error.to_string()),
        }
    }
}

impl Task {
    fn read(body: &Json) -> Result<Self, Failure> {
        let wrong = |field: &str, reason: &str| {
            Failure::new("VALIDATION_ERROR", json!({"field": field, "reason": reason}))
        };
        let object = |field: &str| match body.get(field) {
            None | Some(Json::Null) => Ok(Map::new()),
            Some(Json::Object(object)) => Ok(object.clone()),
            Some(_) => Err(wrong(field, "must be an object")),
        };
        let task = body.get("task_type").and_then(Json::as_str);
        let action = body.get("action").and_then(Json::as_str).and_then(Action::parse);
        Ok(Self {
            task: task.ok_or_else(|| wrong("task_type", "must be a text"))?.to_owned(),
            action: action.ok_or_else(|| wrong("action", "must be create, update or delete"))?,
            params: Json::Object(object("params")?),
            state: object("state")?,
        })
    }
}

impl Worker {
    fn count(&self, outcome: &'static str) {
        let queue = self.queue.clone();
        metrics::counter!("integration_tasks_total", "queue" => queue, "outcome" => outcome).increment(1);
    }

    fn later(&self, message: &Message, block_id: i64, reason: &str) -> Verdict {
        self.count("unanswered");
        self.outage.failed(|failures| {
            tracing::warn!(
                queue = self.queue,
                block_id,
                reason,
                failures,
                code = "UNAVAILABLE",
                "tasks cannot be answered; they come again"
            );
        });
        again(PAUSE, message)
    }

    async fn carry_out(&self, body: Result<Json, Failure>, block_id: i64) -> Outcome {
        let Task { task, action, params, state } = match body.and_then(|body| Task::read(&body)) {
            Ok(task) => task,
            Err(failure) => return Ok(Err(failure)),
        };
        let raw = Raw { block_id, action, params, state, store: self.memory.store(&self.queue) };
        let handled = store::panics::caught(self.handlers.handle(&task, raw)).await;
        handled.unwrap_or_else(|_| {
            let args = json!({"reason": "the handler panicked; see the integration's log"});
            Ok(Err(Failure::new("LOGIC_ERROR", args)))
        })
    }

    async fn remember(
        &self,
        block_id: i64,
        outcome: Result<Map<String, Json>, Failure>,
    ) -> super::memory::Result<String> {
        self.count(if outcome.is_ok() { "succeeded" } else { "failed" });
        let answer = Answer { block_id, outcome }.body();
        self.memory.remember(&self.queue, block_id, &answer).await?;
        Ok(answer)
    }

    async fn send(&self, message: &Message, block_id: i64, body: String) -> Result<(), FifoError> {
        let answer = NewMessage {
            group: message.group.clone(),
            deduplication: format!("answer/{block_id}/{}", message.id).chars().take(128).collect(),
            body,
            attributes: [(JOB_NAME.to_owned(), ANSWER.to_owned())].into(),
        };
        match self.answers.send(answer.clone()).await {
            Err(FifoError::Invalid(reason) | FifoError::TooLarge(reason)) => {
                // Such as a state that is too large: that is said instead.
                let failure = Failure::new("TOO_LARGE", json!({"reason": reason}));
                let body = Answer { block_id, outcome: Err(failure) }.body();
                self.answers.send(NewMessage { body, ..answer }).await.map(drop)
            }
            sent => sent.map(drop),
        }
    }
}
