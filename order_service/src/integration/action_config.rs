//! `platform.set_action_config`.

use std::sync::Arc;

use configurator::sdk::{Action, Handler, Request, TaskError};
use futures::future::BoxFuture;
use serde_json::{Map, Value as Json, json};

/// Keeps action configs: whoever has them fills this in.
pub trait ActionConfigs: Send + Sync + 'static {
    /// Creates or changes one, for the configurator; what is returned are the block's outputs.
    fn put<'a>(&'a self, config: &'a Map<String, Json>) -> BoxFuture<'a, Result<Json, TaskError>>;

    /// Deletes one; one that is not there is deleted.
    fn delete<'a>(&'a self, config: &'a Map<String, Json>) -> BoxFuture<'a, Result<Json, TaskError>>;
}

/// There are none yet: said to whoever asks.
pub struct NoActionConfigs;

fn none<'a>() -> BoxFuture<'a, Result<Json, TaskError>> {
    let reason = "this version of the platform has no action configs";
    Box::pin(std::future::ready(Err(TaskError::permanent("LOGIC_ERROR", json!({"reason": reason})))))
}

impl ActionConfigs for NoActionConfigs {
    fn put<'a>(&'a self, _: &'a Map<String, Json>) -> BoxFuture<'a, Result<Json, TaskError>> {
        none()
    }

    fn delete<'a>(&'a self, _: &'a Map<String, Json>) -> BoxFuture<'a, Result<Json, TaskError>> {
        none()
    }
}

pub(super) struct SetActionConfig {
    pub(super) action_configs: Arc<dyn ActionConfigs>,
}

impl Handler for SetActionConfig {
    const TASK_TYPE: &'static str = "set_action_config";
    type Params = Map<String, Json>;
    type State = Json;

    async fn handle(&self, request: Request<Self::Params>) -> Result<Json, TaskError> {
        match request.action {
            Action::Create | Action::Update => self.action_configs.put(&request.params).await,
            Action::Delete => self.action_configs.delete(&request.params).await,
        }
    }
}
