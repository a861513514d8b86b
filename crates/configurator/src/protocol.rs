//! The messages to integrations and their answers.

mod numbered;

use std::collections::BTreeMap;

use queue::fifo::NewFifoMessage;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
use sha2::{Digest as _, Sha256};

use crate::template::Env;

pub use numbered::{BlockMessageBody, parse_message_body};

/// The attribute that names the task type; of an answer, [`ANSWER_JOB_NAME`].
pub const JOB_NAME_ATTRIBUTE: &str = "JobName";
/// The job name of answers.
pub const ANSWER_JOB_NAME: &str = "integration";
/// The name of the answers' queue, without environment and ending, if nobody says otherwise.
pub const DEFAULT_ANSWER_QUEUE: &str = "configshop";
/// No number of a block reaches it: every number of JavaScript is exact below.
pub const BLOCK_ID_END: i64 = 1 << 53;
/// Numbers of the conformance kit's tasks. A configurator begins below them, and leaves answers to them to the kit.
pub const CHECK_BLOCK_ID_RANGE: std::ops::Range<i64> = (1 << 52)..BLOCK_ID_END;

/// What an integration is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlockAction {
    /// It has never succeeded yet.
    Create,
    /// It has; there is a state.
    Update,
    /// The block has gone from the template.
    Delete,
}

impl BlockAction {
    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            BlockAction::Create => "create",
            BlockAction::Update => "update",
            BlockAction::Delete => "delete",
        }
    }

    /// The action of this name.
    pub fn parse(name: &str) -> Option<Self> {
        [BlockAction::Create, BlockAction::Update, BlockAction::Delete]
            .into_iter()
            .find(|action| action.name() == name)
    }
}

/// Why a block failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlockFailure {
    /// A code of the platform's vocabulary, or the integration's own.
    pub code: String,
    /// What else there is to say.
    #[serde(default)]
    pub args: Map<String, Json>,
}

impl BlockFailure {
    /// With arguments: an object.
    pub fn new(code: impl Into<String>, args: Json) -> Self {
        let args = match args {
            Json::Object(args) => args,
            _ => Map::new(),
        };
        Self { code: code.into(), args }
    }
}

/// A task as it is sent.
#[derive(Debug, Clone)]
pub struct BlockTask<'t> {
    /// Unique for each message that is meant as a new one.
    pub block_id: i64,
    /// The block, for the message's group.
    pub group: String,
    /// The part of `integration` after the dot.
    pub task_type: &'t str,
    /// What to do.
    pub action: BlockAction,
    /// JSON.
    pub params: &'t str,
    /// JSON; of a `create` there is none.
    pub state: Option<&'t str>,
}

/// The group of a block's messages: an old one cannot overtake a newer one.
pub fn message_group(template: &str, env: Env, block: &str) -> String {
    let plain = format!("{template}/{env}/{block}");
    if plain.len() <= 128 {
        return plain;
    }
    let digest: String =
        Sha256::digest(plain.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}/{env}/{digest}", &template[..template.len().min(50)])
}

/// Sent again under it, a task is no second message.
pub fn deduplication_id(block_id: i64) -> String {
    format!("block/{block_id}")
}

/// The number of the block that a message with this id is about; `None`: it is no block's.
pub fn block_id_from_deduplication(deduplication: &str) -> Option<i64> {
    deduplication.strip_prefix("block/")?.parse().ok()
}

impl BlockTask<'_> {
    /// The message.
    pub fn to_message(&self) -> NewFifoMessage {
        let mut body = format!(
            "{{\"block_id\":{},\"task_type\":{},\"action\":\"{}\",\"params\":{}",
            self.block_id,
            Json::from(self.task_type),
            self.action.name(),
            self.params
        );
        if let Some(state) = self.state {
            body.push_str(",\"state\":");
            body.push_str(state);
        }
        body.push('}');
        NewFifoMessage {
            group: self.group.clone(),
            deduplication_id: deduplication_id(self.block_id),
            body,
            attributes: BTreeMap::from([(
                JOB_NAME_ATTRIBUTE.to_owned(),
                self.task_type.to_owned(),
            )]),
        }
    }
}

/// An answer as it is received.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockAnswer {
    /// Which task it answers.
    pub block_id: i64,
    /// What the integration returns: outgoing parameters, and its memory.
    pub outcome: Result<Map<String, Json>, BlockFailure>,
}

impl BlockAnswer {
    /// Reads an answer; `None` if it does not even say what it answers. One that is otherwise malformed is a failure.
    pub fn parse(body: &str) -> Option<Self> {
        let BlockMessageBody { block_id, body } = parse_message_body(body)?;
        Some(Self { block_id, outcome: body.and_then(read_outcome) })
    }

    /// As an integration writes it.
    pub fn to_body(&self) -> String {
        match &self.outcome {
            Ok(state) => json!({"block_id": self.block_id, "state": state}).to_string(),
            Err(failure) => {
                json!({"block_id": self.block_id, "state": {}, "error": {"code": failure.code, "args": failure.args}})
                    .to_string()
            }
        }
    }
}

fn read_outcome(body: Json) -> Result<Map<String, Json>, BlockFailure> {
    match (body.get("error"), body.get("state")) {
        (None | Some(Json::Null), None | Some(Json::Null)) => Ok(Map::new()),
        (None | Some(Json::Null), Some(Json::Object(state))) => Ok(state.clone()),
        (None | Some(Json::Null), Some(_)) => {
            let args = json!({"field": "state", "reason": "the answer's state is not an object"});
            Err(BlockFailure::new("VALIDATION_ERROR", args))
        }
        (Some(error), _) => Err(read_failure(error)),
    }
}

/// Any error is one, however it is written.
fn read_failure(error: &Json) -> BlockFailure {
    let code = error.get("code").and_then(Json::as_str).filter(|code| !code.is_empty());
    let args = match error.get("args") {
        Some(Json::Object(args)) => args.clone(),
        None | Some(Json::Null) if code.is_some() => Map::new(),
        Some(args) if code.is_some() => Map::from_iter([("args".to_owned(), args.clone())]),
        _ => Map::from_iter([("error".to_owned(), error.clone())]),
    };
    BlockFailure { code: store::to_storable_text(code.unwrap_or("INTERNAL_ERROR")), args }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_leniently_and_never_for_more_than_they_are() {
        let ok = |body: &str| BlockAnswer::parse(body).unwrap().outcome.unwrap();
        assert_eq!(ok(r#"{"block_id": 7, "state": {"id": 1}}"#)["id"], 1);
        assert!(ok(r#"{"block_id": 7}"#).is_empty());
        assert!(ok(r#"{"block_id": 7, "state": null, "error": null}"#).is_empty());
        let code = |body: &str| BlockAnswer::parse(body).unwrap().outcome.unwrap_err().code;
        assert_eq!(
            code(r#"{"block_id": 7, "state": {}, "error": {"code": "OWN", "args": {}}}"#),
            "OWN"
        );
        assert_eq!(code(r#"{"block_id": 7, "error": "bad"}"#), "INTERNAL_ERROR");
        assert_eq!(code(r#"{"block_id": 7, "state": [1]}"#), "VALIDATION_ERROR");
        assert_eq!(code(r#"{"block_id": 7, "state": {"x": NaN}}"#), "VALIDATION_ERROR");
        assert_eq!(BlockAnswer::parse("{}"), None);
    }
}
