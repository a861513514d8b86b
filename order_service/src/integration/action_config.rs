//! `platform.set_action_config`: params are an action config as in its file; it then belongs to the configurator.

use configurator::sdk::{Action, Handler, Request, TaskError};
use events::configs::{ActionConfig, problems, set_one};
use reconcile::Owner;
use serde_json::{Map, Value as Json};
use sqlx::PgPool;

use super::{Made, failed, foreign};
use crate::tasks::TASK_TYPES;

pub(super) struct SetActionConfig {
    pub(super) pool: PgPool,
}

impl Handler for SetActionConfig {
    const TASK_TYPE: &'static str = "set_action_config";
    type Params = Map<String, Json>;
    type State = Made;

    async fn handle(&self, request: Request<Self::Params>) -> Result<Made, TaskError> {
        let mut params = request.params;
        params.remove("$schema");
        let name = params.get("name").and_then(Json::as_str).unwrap_or_default().to_owned();
        if name.is_empty() || name.len() > 128 || name.contains('\0') {
            return Err(TaskError::invalid("params.name", "must have 1 to 128 bytes"));
        }
        let new = match request.action {
            Action::Delete => None,
            Action::Create | Action::Update => Some(checked(params)?),
        };
        match set_one(&self.pool, name.clone(), new, Owner::Configurator).await.map_err(failed)? {
            Some(owner) => Err(foreign("action config", &name, owner)),
            None => Ok(Made { name }),
        }
    }
}

fn checked(params: Map<String, Json>) -> Result<ActionConfig, TaskError> {
    let config = serde_json::from_value::<ActionConfig>(Json::Object(params));
    let mut config = config.map_err(|error| TaskError::invalid("params", error.to_string()))?;
    config.author.get_or_insert_with(|| Owner::Configurator.name().to_owned());
    match problems(&config, &TASK_TYPES).first() {
        Some(problem) => Err(TaskError::invalid(format!("params.{}", problem.field), problem.reason.clone())),
        None => Ok(config),
    }
}
