//! Transcripts of runs as JSON lines: messages and their answers, recorded by the test proxy, and
//! replayed in the place of integrations.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use queue::fifo::{FifoConsumer, FifoMessage, FifoQueue, MessageOutcome, NewFifoMessage};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use crate::ids::BlockId;
use crate::protocol::{
    ANSWER_JOB_NAME, BlockAction, BlockAnswer, BlockFailure, BlockMessageBody, JOB_NAME_ATTRIBUTE,
    parse_message_body,
};
use crate::run::BlockExchange;

/// One message and its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TranscriptEntry {
    /// `queue.task_type` of the integration.
    pub integration: String,
    /// The sent action.
    pub action: BlockAction,
    /// The evaluated args of the block.
    pub params: Json,
    /// The state sent along; absent for a `create`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Json>,
    /// The returned state or error.
    pub answer: TranscriptAnswer,
}

/// An answer without its `block_id`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TranscriptAnswer {
    /// The returned state of a success.
    State(Map<String, Json>),
    /// The returned error of a failure.
    Error(BlockFailure),
}

impl TranscriptEntry {
    /// Converts the rows of a run; `None` if a newer version wrote them.
    pub fn from_exchange(exchange: &BlockExchange) -> Option<Self> {
        let answer = match &exchange.error_code {
            Some(code) => TranscriptAnswer::Error(BlockFailure {
                code: code.clone(),
                args: parse_members(exchange.error_args.as_deref()),
            }),
            None => TranscriptAnswer::State(parse_members(exchange.state.as_deref())),
        };
        Some(Self {
            integration: exchange.integration.clone(),
            action: BlockAction::parse(&exchange.action)?,
            params: exchange.params.parse().ok()?,
            state: exchange.state_before.as_ref().and_then(|state| state.parse().ok()),
            answer,
        })
    }
}

/// Empty if the text is missing or unreadable.
fn parse_members(text: Option<&str>) -> Map<String, Json> {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// Parses a transcript; an error names its line.
pub fn parse_transcript(text: &str) -> Result<Vec<TranscriptEntry>, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(n, line)| serde_json::from_str(line).map_err(|error| line_error(n + 1, &error)))
        .collect()
}

/// Each entry is one line: only the column of the JSON error is useful.
fn line_error(line: usize, error: &serde_json::Error) -> String {
    format!("line {line}: {}", error.to_string().replace(" at line 1 column ", " at its column "))
}

/// The queues in a transcript, without environment and suffix.
pub fn transcript_queues(entries: &[TranscriptEntry]) -> BTreeSet<String> {
    let mut queues = BTreeSet::new();
    for entry in entries {
        let queue = entry.integration.split('.').next().unwrap_or_default();
        queues.insert(queue.to_owned());
    }
    queues
}

/// A key of the message's content, independent of the order of members.
fn question_key(
    integration: &str,
    action: BlockAction,
    params: &Json,
    state: Option<&Json>,
) -> String {
    json!([integration, action.name(), sort_members(params), state.map(sort_members)]).to_string()
}

fn sort_members(value: &Json) -> Json {
    match value {
        Json::Object(map) => {
            let sorted: BTreeMap<&String, Json> =
                map.iter().map(|(key, value)| (key, sort_members(value))).collect();
            json!(sorted)
        }
        Json::Array(items) => items.iter().map(sort_members).collect(),
        value => value.clone(),
    }
}

/// Replays the recorded answers to the messages of one queue.
pub struct TranscriptReplay {
    queue: String,
    /// By key, the first recorded answer at the end of the vector. The last answer of a
    /// key is used repeatedly.
    answers: Mutex<BTreeMap<String, Vec<TranscriptAnswer>>>,
    /// Answers given so far, for redeliveries.
    answers_by_block: Mutex<BTreeMap<BlockId, TranscriptAnswer>>,
    answer_queue: Arc<dyn FifoQueue>,
}

impl TranscriptReplay {
    /// A replay for the queue (without environment and suffix) that sends to `answer_queue`.
    pub fn new(entries: &[TranscriptEntry], queue: &str, answer_queue: Arc<dyn FifoQueue>) -> Self {
        let mut answers: BTreeMap<String, Vec<TranscriptAnswer>> = BTreeMap::new();
        // Answers are popped from the end.
        for entry in entries.iter().rev() {
            let key =
                question_key(&entry.integration, entry.action, &entry.params, entry.state.as_ref());
            answers.entry(key).or_default().push(entry.answer.clone());
        }
        Self {
            queue: queue.to_owned(),
            answers: Mutex::new(answers),
            answers_by_block: Mutex::default(),
            answer_queue,
        }
    }

    fn answer_block(&self, block_id: BlockId, body: &Json) -> TranscriptAnswer {
        let mut answers_by_block =
            self.answers_by_block.lock().unwrap_or_else(PoisonError::into_inner);
        answers_by_block.entry(block_id).or_insert_with(|| self.next_answer(body)).clone()
    }

    fn next_answer(&self, body: &Json) -> TranscriptAnswer {
        let task = body["task_type"].as_str().unwrap_or_default();
        let action =
            body["action"].as_str().and_then(BlockAction::parse).unwrap_or(BlockAction::Create);
        let key = question_key(
            &format!("{}.{task}", self.queue),
            action,
            &body["params"],
            body.get("state"),
        );
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        match answers.get_mut(&key) {
            Some(answers) if answers.len() > 1 => answers.pop(),
            Some(answers) => answers.last().cloned(),
            None => None,
        }
        .unwrap_or_else(|| {
            let args = json!({"reason": "the transcript has no such message", "message": body});
            TranscriptAnswer::Error(BlockFailure::new("CONSISTENCY_ERROR", args))
        })
    }
}

impl FifoConsumer for TranscriptReplay {
    async fn consume(&self, message: &FifoMessage) -> MessageOutcome {
        let Some(BlockMessageBody { block_id, body }) = parse_message_body(&message.body) else {
            return MessageOutcome::Dead(
                "VALIDATION_ERROR: the message says no block_id".to_owned(),
            );
        };
        let outcome = body.and_then(|body| match self.answer_block(block_id, &body) {
            TranscriptAnswer::State(state) => Ok(state),
            TranscriptAnswer::Error(failure) => Err(failure),
        });
        let answer = NewFifoMessage {
            group: message.group.clone(),
            deduplication_id: format!("answer/{block_id}"),
            body: BlockAnswer { block_id, outcome }.to_body(),
            attributes: [(JOB_NAME_ATTRIBUTE.to_owned(), ANSWER_JOB_NAME.to_owned())].into(),
        };
        match self.answer_queue.send(answer).await {
            Ok(_) => MessageOutcome::Done,
            Err(_) => MessageOutcome::RetryAfter(std::time::Duration::from_secs(1)),
        }
    }
}
