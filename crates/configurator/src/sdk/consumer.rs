//! The consumer of one task queue: parses, carries out and answers each task, whatever its content.

use std::sync::Arc;
use std::time::Duration;

use queue::Backoff;
use queue::fifo::{
    FifoConsumer, FifoError, FifoMessage, FifoQueue, MessageOutcome, NewFifoMessage,
};
use serde_json::{Map, Value as Json, json};
use store::Outage;

use super::handler::{HandlerResult, IntegrationHandlers, RawBlockRequest};
use super::memory::IntegrationStore;
use crate::ids::BlockId;
use crate::protocol::{
    ANSWER_JOB_NAME, BlockAction, BlockAnswer, BlockFailure, BlockMessageBody, JOB_NAME_ATTRIBUTE,
    parse_message_body,
};

/// First redelivery delay when an answer cannot be stored or sent.
const UNAVAILABLE_RETRY_DELAY: Duration = Duration::from_secs(1);
/// Maximum redelivery delay, unless the first one is longer.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(60);

/// The consumer of one queue's tasks.
pub(super) struct IntegrationConsumer {
    pub(super) handlers: IntegrationHandlers,
    pub(super) store: Arc<dyn IntegrationStore>,
    /// Full name, with environment and suffix.
    pub(super) queue: String,
    pub(super) answer_queue: Arc<dyn FifoQueue>,
    /// First redelivery delay after a temporary error.
    pub(super) retry_delay: Duration,
    pub(super) outage: Outage,
}

/// Backoff by receive count: a message received too often becomes a dead letter.
fn retry_later(first: Duration, message: &FifoMessage) -> MessageOutcome {
    let backoff =
        Backoff { first_delay: first, max_delay: MAX_RETRY_DELAY.max(first), jitter: 0.2 };
    MessageOutcome::RetryAfter(backoff.random_delay(message.receive_count))
}

/// A parsed task message.
struct ReceivedBlockTask {
    task_type: String,
    action: BlockAction,
    params: Json,
    state: Map<String, Json>,
}

impl FifoConsumer for IntegrationConsumer {
    async fn consume(&self, message: &FifoMessage) -> MessageOutcome {
        let Some(BlockMessageBody { block_id, body }) = parse_message_body(&message.body) else {
            self.count_outcome("unreadable");
            return MessageOutcome::Dead(
                "VALIDATION_ERROR: the message says no block_id".to_owned(),
            );
        };
        let remembered = match message.receive_count {
            0 | 1 => Ok(None),
            _ => self.store.find_answer(&self.queue, block_id).await,
        };
        let answer = match remembered {
            Ok(Some(answer)) => {
                self.count_outcome("repeated");
                answer
            }
            Ok(None) => match self.carry_out(body, block_id).await {
                Ok(outcome) => match self.save_answer(block_id, outcome).await {
                    Ok(answer) => answer,
                    Err(reason) => return self.retry_unanswered(message, block_id, &reason),
                },
                Err(reason) => {
                    self.count_outcome("temporary");
                    tracing::info!(
                        queue = self.queue,
                        block_id = block_id.get(),
                        reason,
                        "a task failed for now; it comes again"
                    );
                    return retry_later(self.retry_delay, message);
                }
            },
            Err(reason) => return self.retry_unanswered(message, block_id, &reason),
        };
        match self.send_answer(message, block_id, answer).await {
            Ok(()) => {
                self.outage.record_success(|lasted| {
                    tracing::info!(
                        queue = self.queue,
                        seconds = lasted.as_secs(),
                        "tasks are answered again"
                    );
                });
                MessageOutcome::Done
            }
            Err(error) => self.retry_unanswered(message, block_id, &error.to_string()),
        }
    }
}

impl ReceivedBlockTask {
    fn parse(body: &Json) -> Result<Self, BlockFailure> {
        let Some(task_type) = body.get("task_type").and_then(Json::as_str) else {
            return Err(invalid_field_failure("task_type", "must be a text"));
        };
        let action = body.get("action").and_then(Json::as_str);
        let Some(action) = action.and_then(BlockAction::parse) else {
            return Err(invalid_field_failure("action", "must be create, update or delete"));
        };
        Ok(Self {
            task_type: task_type.to_owned(),
            action,
            params: Json::Object(read_object_field(body, "params")?),
            state: read_object_field(body, "state")?,
        })
    }
}

/// The object in a field; empty if it is missing or null.
fn read_object_field(body: &Json, field: &str) -> Result<Map<String, Json>, BlockFailure> {
    match body.get(field) {
        None | Some(Json::Null) => Ok(Map::new()),
        Some(Json::Object(object)) => Ok(object.clone()),
        Some(_) => Err(invalid_field_failure(field, "must be an object")),
    }
}

fn invalid_field_failure(field: &str, reason: &str) -> BlockFailure {
    BlockFailure::new("VALIDATION_ERROR", json!({"field": field, "reason": reason}))
}

impl IntegrationConsumer {
    fn count_outcome(&self, outcome: &'static str) {
        let queue = self.queue.clone();
        metrics::counter!("integration_tasks_total", "queue" => queue, "outcome" => outcome)
            .increment(1);
    }

    fn retry_unanswered(
        &self,
        message: &FifoMessage,
        block_id: BlockId,
        reason: &str,
    ) -> MessageOutcome {
        self.count_outcome("unanswered");
        self.outage.record_failure(|failures| {
            tracing::warn!(
                queue = self.queue,
                block_id = block_id.get(),
                reason,
                failures,
                code = "UNAVAILABLE",
                "tasks cannot be answered; they come again"
            );
        });
        retry_later(UNAVAILABLE_RETRY_DELAY, message)
    }

    async fn carry_out(
        &self,
        body: Result<Json, BlockFailure>,
        block_id: BlockId,
    ) -> HandlerResult {
        let ReceivedBlockTask { task_type: task, action, params, state } =
            match body.and_then(|body| ReceivedBlockTask::parse(&body)) {
                Ok(task) => task,
                Err(failure) => return Ok(Err(failure)),
            };
        let raw = RawBlockRequest {
            block_id,
            action,
            params,
            state,
            store: self.store.key_values(&self.queue),
        };
        let handled = store::panics::catch_panic(self.handlers.handle_task(&task, raw)).await;
        handled.unwrap_or_else(|_| {
            let args = json!({"reason": "the handler panicked; see the integration's log"});
            Ok(Err(BlockFailure::new("LOGIC_ERROR", args)))
        })
    }

    async fn save_answer(
        &self,
        block_id: BlockId,
        outcome: Result<Map<String, Json>, BlockFailure>,
    ) -> super::memory::Result<String> {
        self.count_outcome(if outcome.is_ok() { "succeeded" } else { "failed" });
        let answer = BlockAnswer { block_id, outcome }.to_body();
        self.store.save_answer(&self.queue, block_id, &answer).await?;
        Ok(answer)
    }

    async fn send_answer(
        &self,
        message: &FifoMessage,
        block_id: BlockId,
        body: String,
    ) -> Result<(), FifoError> {
        let answer = NewFifoMessage {
            group: message.group.clone(),
            deduplication_id: format!("answer/{block_id}/{}", message.id)
                .chars()
                .take(128)
                .collect(),
            body,
            attributes: [(JOB_NAME_ATTRIBUTE.to_owned(), ANSWER_JOB_NAME.to_owned())].into(),
        };
        match self.answer_queue.send(answer.clone()).await {
            Err(FifoError::Invalid(reason) | FifoError::TooLarge(reason)) => {
                // For example, a state that is too large: the error is answered instead.
                let failure = BlockFailure::new("TOO_LARGE", json!({"reason": reason}));
                let body = BlockAnswer { block_id, outcome: Err(failure) }.to_body();
                self.answer_queue.send(NewFifoMessage { body, ..answer }).await.map(drop)
            }
            sent => sent.map(drop),
        }
    }
}
