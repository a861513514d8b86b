//! Handlers of an integration, one per task type.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json, json};

use super::KeyValueStore;
use crate::ids::BlockId;
use crate::protocol::{BlockAction, BlockFailure};

/// A handler of tasks of one type.
pub trait IntegrationHandler: Send + Sync + 'static {
    /// The task type: the part of `integration` after the dot.
    const TASK_TYPE: &'static str;
    /// The type that the block's args are deserialized into.
    type Params: DeserializeOwned + Send;
    /// The state that the handler returns: outputs for other blocks, and private data for its next
    /// call. Serializes to an object.
    type State: Serialize + Send;

    /// Carries out a task. Must be idempotent: a redelivered task gives the same state and changes
    /// nothing. Cancelled at an await point once another consumer may have received the message.
    fn handle(
        &self,
        request: BlockRequest<Self::Params>,
    ) -> impl Future<Output = Result<Self::State, IntegrationError>> + Send;
}

/// A task for a handler.
#[derive(Clone)]
pub struct BlockRequest<P> {
    /// The `block_id` of the message. A new number does not imply new content.
    pub block_id: BlockId,
    /// The action to carry out.
    pub action: BlockAction,
    /// The block's deserialized args.
    pub params: P,
    /// The last returned state; empty for a `create`.
    pub state: Map<String, Json>,
    /// Key-value store for data of the handlers.
    pub store: Arc<dyn KeyValueStore>,
}

/// The error of a task.
#[derive(Debug, Clone, PartialEq)]
pub enum IntegrationError {
    /// A retry may succeed: not answered, the task is redelivered.
    Temporary(String),
    /// A retry cannot succeed: answered, and then deleted.
    Permanent {
        /// `LOGIC_ERROR`, `VALIDATION_ERROR`, `CONSISTENCY_ERROR`, `INTERNAL_ERROR`, or a
        /// code of the integration.
        code: String,
        /// Details of the error, as a JSON object.
        args: Json,
    },
}

impl IntegrationError {
    /// A permanent error with this code.
    pub fn permanent(code: impl Into<String>, args: Json) -> Self {
        IntegrationError::Permanent { code: code.into(), args }
    }

    /// A permanent `VALIDATION_ERROR`: the invalid field, and which values are allowed.
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        let (field, reason) = (field.into(), reason.into());
        IntegrationError::permanent("VALIDATION_ERROR", json!({"field": field, "reason": reason}))
    }
}

/// A task with params that are not deserialized yet.
pub(super) struct RawBlockRequest {
    pub(super) block_id: BlockId,
    pub(super) action: BlockAction,
    pub(super) params: Json,
    pub(super) state: Map<String, Json>,
    pub(super) store: Arc<dyn KeyValueStore>,
}

/// The outcome to answer, or the reason of a temporary error.
pub(super) type HandlerResult = Result<Result<Map<String, Json>, BlockFailure>, String>;

trait ErasedIntegrationHandler: Send + Sync {
    fn handle_raw(&self, raw: RawBlockRequest) -> BoxFuture<'_, HandlerResult>;
}

impl<H: IntegrationHandler> ErasedIntegrationHandler for H {
    fn handle_raw(&self, raw: RawBlockRequest) -> BoxFuture<'_, HandlerResult> {
        Box::pin(async move {
            let params = match serde_path_to_error::deserialize(&raw.params) {
                Ok(params) => params,
                Err(error) => {
                    let path = error.path().to_string();
                    let field =
                        if path == "." { "params".to_owned() } else { format!("params.{path}") };
                    let args = json!({"field": field, "reason": error.into_inner().to_string()});
                    return Ok(Err(BlockFailure::new("VALIDATION_ERROR", args)));
                }
            };
            let RawBlockRequest { block_id, action, state, store, .. } = raw;
            let result = IntegrationHandler::handle(
                self,
                BlockRequest { block_id, action, params, state, store },
            )
            .await;
            match result {
                Ok(state) => Ok(match serde_json::to_value(state) {
                    Ok(Json::Object(state)) => Ok(state),
                    Ok(Json::Null) => Ok(Map::new()),
                    _ => {
                        let args = json!({"reason": "the handler's state is not an object"});
                        Err(BlockFailure::new("LOGIC_ERROR", args))
                    }
                }),
                Err(IntegrationError::Temporary(reason)) => Err(reason),
                Err(IntegrationError::Permanent { code, args }) => {
                    Ok(Err(BlockFailure::new(code, args)))
                }
            }
        })
    }
}

/// The handlers of an integration by task type.
#[derive(Clone, Default)]
pub struct IntegrationHandlers(HashMap<&'static str, Arc<dyn ErasedIntegrationHandler>>);

impl IntegrationHandlers {
    /// Adds a handler; replaces an earlier one of the same task type.
    pub fn with_handler<H: IntegrationHandler>(mut self, handler: H) -> Self {
        self.0.insert(H::TASK_TYPE, Arc::new(handler));
        self
    }

    pub(super) async fn handle_task(&self, task: &str, raw: RawBlockRequest) -> HandlerResult {
        let Some(handler) = self.0.get(task) else {
            let mut known: Vec<&str> = self.0.keys().copied().collect();
            known.sort_unstable();
            let args = json!({"field": "task_type", "reason": format!("unknown task type `{}`", store::to_storable_text(task)), "known": known});
            return Ok(Err(BlockFailure::new("VALIDATION_ERROR", args)));
        };
        handler.handle_raw(raw).await
    }
}
