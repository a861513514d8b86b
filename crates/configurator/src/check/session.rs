//! The session of a conformance check: sends well-formed and malformed tasks,
//! and waits for answers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use queue::fifo::{FifoError, FifoMessageStatus, FifoQueue, NewFifoMessage, SentMessage};
use serde_json::{Map, Value as Json, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::collect::{AnswerCollector, CollectedAnswer};
use super::{IntegrationCheckEngine, IntegrationCheckOptions};
use crate::ids::BlockId;
use crate::protocol::{
    BlockAction, BlockAnswer, BlockFailure, CHECK_BLOCK_ID_RANGE, JOB_NAME_ATTRIBUTE,
};

/// Size of the `block_id` range of one session.
const MAX_SESSION_BLOCK_IDS: i64 = 1 << 20;
/// A task type that no integration has.
const UNKNOWN_TASK_TYPE: &str = "no_such_task_type";

/// One session of the kit.
pub(super) struct IntegrationCheckSession {
    pub(super) engine: IntegrationCheckEngine,
    pub(super) options: IntegrationCheckOptions,
    pub(super) task_queue: Arc<dyn FifoQueue>,
    collector: Arc<AnswerCollector>,
    collector_task: JoinHandle<()>,
    stop: CancellationToken,
    /// Prefix of the session's message groups and deduplication ids.
    pub(super) name_prefix: String,
    next_block_id: AtomicI64,
    /// Sent messages, each with the `block_id` that it has or would have.
    sent_messages: Mutex<Vec<(BlockId, SentMessage)>>,
}

/// A task message that was sent.
pub(super) struct SentCheckTask {
    pub(super) block_id: BlockId,
    pub(super) message: SentMessage,
}

impl Drop for IntegrationCheckSession {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl IntegrationCheckSession {
    pub(super) async fn open(
        check_engine: IntegrationCheckEngine,
        options: IntegrationCheckOptions,
    ) -> Result<Self, FifoError> {
        let engine = check_engine.fifo_engine();
        let tasks = engine.open_queue(&options.env.queue_name(&options.queue)).await?;
        let answers = engine.open_queue(&options.env.queue_name(&options.answer_queue)).await?;
        let random = Uuid::new_v4();
        let span =
            CHECK_BLOCK_ID_RANGE.end.0 - CHECK_BLOCK_ID_RANGE.start.0 - MAX_SESSION_BLOCK_IDS;
        let first =
            CHECK_BLOCK_ID_RANGE.start.0 + (random.as_u128() % span.unsigned_abs() as u128) as i64;
        let mark = format!("check/{}", &random.simple().to_string()[..12]);
        let block_ids = BlockId(first)..BlockId(first + MAX_SESSION_BLOCK_IDS);
        let collected = Arc::new(AnswerCollector::new(block_ids, mark.clone()));
        let stop = CancellationToken::new();
        let collecting = tokio::spawn(collected.clone().run(answers, stop.clone()));
        let (next, sent) = (AtomicI64::new(first), Mutex::default());
        Ok(Self {
            engine: check_engine,
            options,
            task_queue: tasks,
            collector: collected,
            collector_task: collecting,
            stop,
            name_prefix: mark,
            next_block_id: next,
            sent_messages: sent,
        })
    }

    /// Stops the collector and waits until it holds no received answer.
    pub(super) async fn close(mut self) {
        self.stop.cancel();
        let _ = (&mut self.collector_task).await;
    }

    /// The next unused `block_id` of the session.
    pub(super) fn allocate_block_id(&self) -> BlockId {
        BlockId(self.next_block_id.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether the integration has answered anything yet.
    pub(super) fn has_answers(&self) -> bool {
        *self.collector.subscribe_count().borrow() > 0
    }

    pub(super) fn answer_collector(&self) -> &AnswerCollector {
        &self.collector
    }

    /// Task type and args for checks that accept any answer.
    pub(super) fn any_task(&self) -> (&str, Json) {
        match &self.options.task {
            Some(task) => (&task.task_type, task.args.clone()),
            None => (UNKNOWN_TASK_TYPE, json!({})),
        }
    }

    /// A task type that no integration has.
    pub(super) fn unknown_task_type(&self) -> &'static str {
        UNKNOWN_TASK_TYPE
    }

    /// Sends a raw body to a group of this session.
    pub(super) async fn send_body(
        &self,
        group: &str,
        block_id: BlockId,
        job_name: &str,
        body: String,
    ) -> Result<SentCheckTask, FifoError> {
        let message = NewFifoMessage {
            group: format!("{}/{group}", self.name_prefix),
            deduplication_id: format!("{}/{}", self.name_prefix, Uuid::new_v4().simple()),
            body,
            attributes: BTreeMap::from([(JOB_NAME_ATTRIBUTE.to_owned(), job_name.to_owned())]),
        };
        let sent = self.task_queue.send(message).await?;
        self.sent_messages
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((block_id, sent.clone()));
        Ok(SentCheckTask { block_id, message: sent })
    }

    /// Sends a well-formed task to a group of this session.
    pub(super) async fn send_task(
        &self,
        group: &str,
        block_id: BlockId,
        (task, args): (&str, &Json),
        action: BlockAction,
        state: Option<&Map<String, Json>>,
    ) -> Result<SentCheckTask, FifoError> {
        let mut body = json!({"block_id": block_id, "task_type": task, "action": action.name(), "params": args});
        if let Some(state) = state {
            body["state"] = Json::Object(state.clone());
        }
        self.send_body(group, block_id, task, body.to_string()).await
    }

    /// Waits for `count` answers to a `block_id`; returns fewer after the timeout.
    pub(super) async fn wait_for_answers(
        &self,
        block_id: BlockId,
        count: usize,
        max_wait: Duration,
    ) -> Vec<CollectedAnswer> {
        let deadline = Instant::now() + max_wait;
        let mut answer_count = self.collector.subscribe_count();
        loop {
            answer_count.borrow_and_update();
            let answers = self.collector.answers_to(block_id);
            if answers.len() >= count || timeout_at(deadline, answer_count.changed()).await.is_err()
            {
                return answers;
            }
        }
    }

    /// Waits for the first answer to a `block_id`; `None` after the timeout.
    pub(super) async fn wait_for_answer(&self, block_id: BlockId) -> Option<CollectedAnswer> {
        self.wait_for_answers(block_id, 1, self.options.answer_timeout).await.into_iter().next()
    }

    /// Sends a well-formed task to the group, and waits for the answer.
    pub(super) async fn ask_task(
        &self,
        group: &str,
        task: (&str, &Json),
        action: BlockAction,
        state: Option<&Map<String, Json>>,
    ) -> Result<(SentCheckTask, Option<CollectedAnswer>), FifoError> {
        let sent_task =
            self.send_task(group, self.allocate_block_id(), task, action, state).await?;
        let answer = self.wait_for_answer(sent_task.block_id).await;
        Ok((sent_task, answer))
    }

    /// The message's status; `None` on SQS, which does not show it.
    pub(super) async fn trace_task(
        &self,
        sent_task: &SentCheckTask,
    ) -> Result<Option<FifoMessageStatus>, FifoError> {
        match &self.engine {
            IntegrationCheckEngine::Postgres(engine) => {
                engine.message_status(self.task_queue.name(), &sent_task.message).await.map(Some)
            }
            IntegrationCheckEngine::Sqs(_) => Ok(None),
        }
    }

    /// The fate of a message without an answer, as text.
    pub(super) async fn describe_unanswered(
        &self,
        sent_task: &SentCheckTask,
    ) -> Result<String, FifoError> {
        let answer_timeout = humantime::format_duration(self.options.answer_timeout);
        Ok(match self.trace_task(sent_task).await? {
            Some(FifoMessageStatus::Queued(0)) => {
                format!("not answered within {answer_timeout}: never received")
            }
            Some(FifoMessageStatus::Queued(n)) => {
                format!("not answered within {answer_timeout}: received {n} times, and still there")
            }
            Some(FifoMessageStatus::Deleted(_)) => "deleted without an answer".to_owned(),
            Some(FifoMessageStatus::Lost) | None => format!("not answered within {answer_timeout}"),
        })
    }

    /// Sent messages without an answer.
    pub(super) fn unanswered_messages(&self) -> Vec<SentMessage> {
        let sent = self.sent_messages.lock().unwrap_or_else(PoisonError::into_inner);
        let open =
            sent.iter().filter(|(block_id, _)| self.collector.answers_to(*block_id).is_empty());
        open.map(|(_, sent)| sent.clone()).collect()
    }

    /// The message is deleted: the final sweep need not look for it.
    pub(super) fn forget_message(&self, id: &str) {
        self.sent_messages
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|(_, sent)| sent.id != id);
    }
}

impl CollectedAnswer {
    /// The parsed answer; `None` if it has no readable `block_id`.
    pub(super) fn parse_answer(&self) -> Option<BlockAnswer> {
        BlockAnswer::parse(&self.body)
    }

    /// The outcome as text.
    pub(super) fn describe_outcome(&self) -> String {
        match self.parse_outcome() {
            Some(Ok(_)) => "a success".to_owned(),
            Some(Err(failure)) => format!("the error {}", failure.code),
            None => "something that is no answer".to_owned(),
        }
    }

    /// The state of a success; `None` for a failure.
    pub(super) fn success_state(&self) -> Option<Map<String, Json>> {
        self.parse_answer()?.outcome.ok()
    }

    /// Whether the answer reports a failure.
    pub(super) fn is_error(&self) -> bool {
        self.parse_answer().is_some_and(|answer| answer.outcome.is_err())
    }

    /// Whether both answers are equal except for the `block_id`.
    pub(super) fn has_same_outcome(&self, other: &CollectedAnswer) -> bool {
        self.parse_outcome() == other.parse_outcome()
    }

    fn parse_outcome(&self) -> Option<Result<Map<String, Json>, BlockFailure>> {
        self.parse_answer().map(|answer| answer.outcome)
    }
}
