//! `platform.set_action_config`: params are an action config as in its document; the configurator
//! becomes its owner.

use configurator::sdk::{BlockAction, BlockRequest, IntegrationError, IntegrationHandler};
use events::configs::{ActionConfig, config_problems, set_config};
use reconcile::ObjectOwner;
use serde_json::{Map, Value as Json};
use sqlx::PgPool;

use super::{PlatformObject, block_actor, foreign_owner_error, store_task_error};
use crate::background::tasks::TASK_TYPES;

pub(super) struct SetActionConfig {
    pub(super) pool: PgPool,
}

impl IntegrationHandler for SetActionConfig {
    const TASK_TYPE: &'static str = "set_action_config";
    type Params = Map<String, Json>;
    type State = PlatformObject;

    async fn handle(
        &self,
        request: BlockRequest<Self::Params>,
    ) -> Result<PlatformObject, IntegrationError> {
        let mut params = request.params;
        params.remove("$schema");
        let name = params.get("name").and_then(Json::as_str).unwrap_or_default().to_owned();
        if name.is_empty() || name.len() > 128 || name.contains('\0') {
            return Err(IntegrationError::invalid("params.name", "must have 1 to 128 bytes"));
        }
        let new = match request.action {
            BlockAction::Delete => None,
            BlockAction::Create | BlockAction::Update => Some(parse_action_config(params)?),
        };
        let actor = block_actor(request.block_id);
        match set_config(&self.pool, name.clone(), new, ObjectOwner::Configurator, &actor)
            .await
            .map_err(store_task_error)?
        {
            Some(owner) => Err(foreign_owner_error("action config", &name, owner)),
            None => Ok(PlatformObject { name }),
        }
    }
}

fn parse_action_config(params: Map<String, Json>) -> Result<ActionConfig, IntegrationError> {
    let config = serde_json::from_value::<ActionConfig>(Json::Object(params));
    let mut config =
        config.map_err(|error| IntegrationError::invalid("params", error.to_string()))?;
    config.author.get_or_insert_with(|| ObjectOwner::Configurator.name().to_owned());
    match config_problems(&config, &TASK_TYPES).first() {
        Some(problem) => Err(IntegrationError::invalid(
            format!("params.{}", problem.field),
            problem.reason.clone(),
        )),
        None => Ok(config),
    }
}
