//! One message: read, carried out, answered; in this order, whatever is in it.

use std::sync::Arc;
use std::time::Duration;

use queue::fifo::{Consumer, FifoError, FifoQueue, Message, NewMessage, Verdict};
use serde_json::{Map, Value as Json, json};

use super::handler::{Handlers, Outcome, Raw};
use super::memory::Memory;
use crate::protocol::{ANSWER, Action, Answer, Failure, JOB_NAME, block_id};

/// When nothing can be remembered or answered, the message comes again after this.
const PAUSE: Duration = Duration::from_secs(1);

/// Carries out the tasks of one queue.
pub(super) struct Worker {
    pub(super) handlers: Handlers,
    pub(super) memory: Arc<dyn Memory>,
    /// With environment and ending.
    pub(super) queue: String,
    pub(super) answers: Arc<dyn FifoQueue>,
    /// How soon a task comes again after a temporary error.
    pub(super) again: Duration,
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
        let Some((body, block_id)) = numbered(&message.body) else {
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
            Ok(None) => match self.carry_out(&body, block_id).await {
                Ok(outcome) => match self.remember(block_id, outcome).await {
                    Ok(answer) => answer,
                    Err(reason) => return self.later(block_id, &reason),
                },
                Err(reason) => {
                    self.count("temporary");
                    tracing::info!(
                        queue = self.queue,
                        block_id,
                        reason,
                        "a task failed for now; it comes again"
                    );
                    return Verdict::Again(self.again);
                }
            },
            Err(reason) => return self.later(block_id, &reason),
        };
        match self.send(message, block_id, answer).await {
            Ok(()) => Verdict::Done,
            Err(error) => self.later(block_id, &error.to_string()),
        }
    }
}

/// The body as JSON and the number in it: also of a body that is no JSON, if it can be found.
fn numbered(body: &str) -> Option<(Option<Json>, i64)> {
    if let Ok(json) = body.parse::<Json>() {
        let id = block_id(&json)?;
        return Some((Some(json), id));
    }
    let after = &body[body.find("\"block_id\"")? + "\"block_id\"".len()..];
    let digits = after.trim_start().strip_prefix(':')?.trim_start();
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let id = block_id(&json!({"block_id": digits[..end].parse::<i64>().ok()?}))?;
    Some((None, id))
}

impl Task {
    fn read(body: Option<&Json>) -> Result<Self, Failure> {
        let wrong = |field: &str, reason: &str| {
            Failure::new("VALIDATION_ERROR", json!({"field": field, "reason": reason}))
        };
        let body = body.ok_or_else(|| wrong("body", "is not JSON"))?;
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

    fn later(&self, block_id: i64, reason: &str) -> Verdict {
        self.count("unanswered");
        tracing::warn!(
            queue = self.queue,
            block_id,
            reason,
            code = "UNAVAILABLE",
            "a task could not be answered; it comes again"
        );
        Verdict::Again(PAUSE)
    }

    async fn carry_out(&self, body: &Option<Json>, block_id: i64) -> Outcome {
        let Task { task, action, params, state } = match Task::read(body.as_ref()) {
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
            Err(FifoError::Invalid(reason)) => {
                // Such as a state that is too large: that is said instead.
                let failure = Failure::new("TOO_LARGE", json!({"reason": reason}));
                let body = Answer { block_id, outcome: Err(failure) }.body();
                self.answers.send(NewMessage { body, ..answer }).await.map(drop)
            }
            sent => sent.map(drop),
        }
    }
}
