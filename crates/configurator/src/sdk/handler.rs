//! What an integration does: handlers, by type of task.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json, json};

use super::KeyValueStore;
use crate::protocol::{BlockAction, BlockFailure};

/// Carries out tasks of one type.
pub trait IntegrationHandler: Send + Sync + 'static {
    /// The type: the part of `integration` after the dot.
    const TASK_TYPE: &'static str;
    /// What the block's args are read as.
    type Params: DeserializeOwned + Send;
    /// What is returned: outputs for other blocks, and what the handler wants to be told next time. An object.
    type State: Serialize + Send;

    /// Does it. May be given the same task again: it must then answer the same and change nothing. Dropped at an await when
    /// the message has become somebody else's.
    fn handle(
        &self,
        request: BlockRequest<Self::Params>,
    ) -> impl Future<Output = Result<Self::State, IntegrationError>> + Send;
}

/// A task.
#[derive(Clone)]
pub struct BlockRequest<P> {
    /// Its number; another one does not mean another wish.
    pub block_id: i64,
    /// What to do.
    pub action: BlockAction,
    /// The block's args.
    pub params: P,
    /// What was returned last time; empty for a `create`.
    pub state: Map<String, Json>,
    /// Keeps what the handler wants to keep, by key.
    pub store: Arc<dyn KeyValueStore>,
}

/// Why a task failed.
#[derive(Debug, Clone, PartialEq)]
pub enum IntegrationError {
    /// Another attempt may succeed: nothing is answered, the task comes again.
    Temporary(String),
    /// None will: this is answered.
    Permanent {
        /// `LOGIC_ERROR`, `VALIDATION_ERROR`, `CONSISTENCY_ERROR`, `INTERNAL_ERROR`, or the integration's own.
        code: String,
        /// What else there is to say: an object.
        args: Json,
    },
}

impl IntegrationError {
    /// A permanent one.
    pub fn permanent(code: impl Into<String>, args: Json) -> Self {
        IntegrationError::Permanent { code: code.into(), args }
    }

    /// The input is wrong: which field, and what is allowed.
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        let (field, reason) = (field.into(), reason.into());
        IntegrationError::permanent("VALIDATION_ERROR", json!({"field": field, "reason": reason}))
    }
}

/// A task whose params were not read yet.
pub(super) struct RawBlockRequest {
    pub(super) block_id: i64,
    pub(super) action: BlockAction,
    pub(super) params: Json,
    pub(super) state: Map<String, Json>,
    pub(super) store: Arc<dyn KeyValueStore>,
}

/// A temporary error's words, or what is answered.
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

/// The handlers of an integration.
#[derive(Clone, Default)]
pub struct IntegrationHandlers(HashMap<&'static str, Arc<dyn ErasedIntegrationHandler>>);

impl IntegrationHandlers {
    /// With one more.
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
