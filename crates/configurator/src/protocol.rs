//! The messages to integrations and their answers.

mod numbered;

use std::collections::BTreeMap;

use queue::fifo::NewFifoMessage;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
use sha2::{Digest as _, Sha256};

use crate::ids::BlockId;
use crate::template::Env;

pub use numbered::{BlockMessageBody, parse_message_body};

/// Message attribute with the task type; in an answer its value is [`ANSWER_JOB_NAME`].
pub const JOB_NAME_ATTRIBUTE: &str = "JobName";
/// Value of [`JOB_NAME_ATTRIBUTE`] in answers.
pub const ANSWER_JOB_NAME: &str = "integration";
/// Default name of the answer queue, without environment and suffix.
pub const DEFAULT_ANSWER_QUEUE: &str = "configshop";
/// Exclusive upper bound of `block_id`s: below 2^53 JavaScript numbers are exact.
pub const BLOCK_ID_END: BlockId = BlockId(1 << 53);
/// The `block_id`s of the conformance kit. A configurator allocates below this range, and leaves
/// answers in the range to the kit.
pub const CHECK_BLOCK_ID_RANGE: std::ops::Range<BlockId> = BlockId(1 << 52)..BLOCK_ID_END;

/// The action that an integration carries out on a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlockAction {
    /// The block has no stored success yet.
    Create,
    /// The block has a stored success, whose state is sent along.
    Update,
    /// The block was removed from the template.
    Delete,
}

impl BlockAction {
    /// The name in messages and in the database.
    pub fn name(self) -> &'static str {
        match self {
            BlockAction::Create => "create",
            BlockAction::Update => "update",
            BlockAction::Delete => "delete",
        }
    }

    /// Parses a name; `None` if it is unknown.
    pub fn parse(name: &str) -> Option<Self> {
        [BlockAction::Create, BlockAction::Update, BlockAction::Delete]
            .into_iter()
            .find(|action| action.name() == name)
    }
}

/// The error of a failed block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlockFailure {
    /// A code of the platform's error vocabulary, or one of the integration.
    pub code: String,
    /// Details of the error.
    #[serde(default)]
    pub args: Map<String, Json>,
}

impl BlockFailure {
    /// A failure with these args; any JSON but an object counts as no args.
    pub fn new(code: impl Into<String>, args: Json) -> Self {
        let args = match args {
            Json::Object(args) => args,
            _ => Map::new(),
        };
        Self { code: code.into(), args }
    }
}

/// A task message to an integration.
#[derive(Debug, Clone)]
pub struct BlockTask<'t> {
    /// Unique per message. A message that is sent again keeps its `block_id`.
    pub block_id: BlockId,
    /// The message group of the block, see [`message_group`].
    pub group: String,
    /// The part of `integration` after the dot.
    pub task_type: &'t str,
    /// The action to carry out.
    pub action: BlockAction,
    /// The evaluated args, as the text of a JSON object.
    pub params: &'t str,
    /// The last state, as the text of a JSON object; `None` for a `create`.
    pub state: Option<&'t str>,
}

/// The message group of a block: FIFO order, so an old message cannot overtake a newer one. Names
/// over 128 bytes are replaced by a prefix and a hash.
pub fn message_group(template: &str, env: Env, block: &str) -> String {
    let plain = format!("{template}/{env}/{block}");
    if plain.len() <= 128 {
        return plain;
    }
    let digest = hex::encode(Sha256::digest(plain.as_bytes()));
    format!("{}/{env}/{digest}", &template[..template.len().min(50)])
}

/// The deduplication id of a task: the queue drops a task that is sent again.
pub fn deduplication_id(block_id: BlockId) -> String {
    format!("block/{block_id}")
}

/// The `block_id` in a deduplication id; `None` if it is not one of a block.
pub fn block_id_from_deduplication(deduplication: &str) -> Option<BlockId> {
    deduplication.strip_prefix("block/")?.parse().ok()
}

impl BlockTask<'_> {
    /// Builds the queue message of the task.
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

/// An answer to a task.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockAnswer {
    /// The `block_id` of the answered task.
    pub block_id: BlockId,
    /// The state that the integration returns (outputs and its private data), or its error.
    pub outcome: Result<Map<String, Json>, BlockFailure>,
}

impl BlockAnswer {
    /// Parses an answer; `None` if it has no readable `block_id`. Any other malformed answer is a
    /// failure of the block.
    pub fn parse(body: &str) -> Option<Self> {
        let BlockMessageBody { block_id, body } = parse_message_body(body)?;
        Some(Self { block_id, outcome: body.and_then(read_outcome) })
    }

    /// The message body, in the form that integrations send.
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

/// Any `error` value counts as a failure, whatever its form.
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
