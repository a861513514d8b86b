//! Transcripts: what was sent in runs and what was answered, one JSON object a line; recorded by the test proxy, and
//! answered from in the place of integrations.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use queue::fifo::{Consumer, FifoQueue, Message, NewMessage, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use crate::protocol::{ANSWER, Action, Answer, Failure, JOB_NAME, Numbered, numbered};
use crate::run::Exchange;

/// One message and its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// `queue.task_type`.
    pub integration: String,
    /// What was asked for.
    pub action: Action,
    /// The block's args.
    pub params: Json,
    /// What the integration was told that it had returned last time; of a `create` there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Json>,
    /// What it returned, or why it failed.
    pub answer: Outcome,
}

/// An answer without its number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// What it returned.
    State(Map<String, Json>),
    /// Why it failed.
    Error(Failure),
}

impl Entry {
    /// As a run's rows have it; `None` if a newer program wrote them.
    pub fn of(exchange: &Exchange) -> Option<Self> {
        let object = |text: &Option<String>| text.as_ref().and_then(|text| serde_json::from_str(text).ok());
        let answer = match &exchange.error_code {
            Some(code) => Outcome::Error(Failure {
                code: code.clone(),
                args: object(&exchange.error_args).unwrap_or_default(),
            }),
            None => Outcome::State(object(&exchange.state).unwrap_or_default()),
        };
        Some(Self {
            integration: exchange.integration.clone(),
            action: Action::parse(&exchange.action)?,
            params: exchange.params.parse().ok()?,
            state: exchange.state_before.as_ref().and_then(|state| state.parse().ok()),
            answer,
        })
    }
}

/// Reads a transcript; what is wrong is said with its line.
pub fn read(text: &str) -> Result<Vec<Entry>, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(n, line)| serde_json::from_str(line).map_err(|error| wrong(n + 1, &error))).collect()
}

/// Of one line of many, its column says enough.
fn wrong(line: usize, error: &serde_json::Error) -> String {
    format!("line {line}: {}", error.to_string().replace(" at line 1 column ", " at its column "))
}

/// The queues that a transcript speaks of, without environment and ending.
pub fn queues(entries: &[Entry]) -> BTreeSet<String> {
    let queue = |entry: &Entry| entry.integration.split('.').next().unwrap_or_default().to_owned();
    entries.iter().map(queue).collect()
}

/// What was asked for, as a key: the same however its members are ordered.
fn key(integration: &str, action: Action, params: &Json, state: Option<&Json>) -> String {
    json!([integration, action.name(), sorted(params), state.map(sorted)]).to_string()
}

fn sorted(value: &Json) -> Json {
    match value {
        Json::Object(map) => {
            let sorted: BTreeMap<&String, Json> =
                map.iter().map(|(key, value)| (key, sorted(value))).collect();
            json!(sorted)
        }
        Json::Array(items) => items.iter().map(sorted).collect(),
        value => value.clone(),
    }
}

/// Answers the messages of one queue as they were answered when the transcript was recorded.
pub struct Replay {
    queue: String,
    /// In the order they were recorded; of the same question the last answer stays.
    answers: Mutex<BTreeMap<String, Vec<Outcome>>>,
    /// For redeliveries.
    given: Mutex<BTreeMap<i64, Outcome>>,
    to: Arc<dyn FifoQueue>,
}

impl Replay {
    /// For the queue of this name (without environment and ending), answering to `to`.
    pub fn new(entries: &[Entry], queue: &str, to: Arc<dyn FifoQueue>) -> Self {
        let mut answers: BTreeMap<String, Vec<Outcome>> = BTreeMap::new();
        // The first one is taken from the end.
        for entry in entries.iter().rev() {
            let key = key(&entry.integration, entry.action, &entry.params, entry.state.as_ref());
            answers.entry(key).or_default().push(entry.answer.clone());
        }
        Self { queue: queue.to_owned(), answers: Mutex::new(answers), given: Mutex::default(), to }
    }

    fn answer(&self, block_id: i64, body: &Json) -> Outcome {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.entry(block_id).or_insert_with(|| self.next(body)).clone()
    }

    fn next(&self, body: &Json) -> Outcome {
        let task = body["task_type"].as_str().unwrap_or_default();
        let action = body["action"].as_str().and_then(Action::parse).unwrap_or(Action::Create);
        let key = key(&format!("{}.{task}", self.queue), action, &body["params"], body.get("state"));
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        match answers.get_mut(&key) {
            Some(answers) if answers.len() > 1 => answers.pop(),
            Some(answers) => answers.last().cloned(),
            None => None,
        }
        .unwrap_or_else(|| {
            let args = json!({"reason": "the transcript has no such message", "message": body});
            Outcome::Error(Failure::new("CONSISTENCY_ERROR", args))
        })
    }
}

impl Consumer for Replay {
    async fn consume(&self, message: &Message) -> Verdict {
        let Some(Numbered { block_id, body }) = numbered(&message.body) else {
            return Verdict::Dead("VALIDATION_ERROR: the message says no block_id".to_owned());
        };
        let outcome = body.and_then(|body| match self.answer(block_id, &body) {
            Outcome::State(state) => Ok(state),
            Outcome::Error(failure) => Err(failure),
        });
        let answer = NewMessage {
            group: message.group.clone(),
            deduplication: format!("answer/{block_id}"),
            body: Answer { block_id, outcome }.body(),
            attributes: [(JOB_NAME.to_owned(), ANSWER.to_owned())].into(),
        };
        match self.to.send(answer).await {
            Ok(_) => Verdict::Done,
            Err(_) => Verdict::Again(std::time::Duration::from_secs(1)),
        }
    }
}
