//! What the platform makes from blocks is known by its name, and blocks by theirs: this looks after the difference.

use configurator::run::is_described_elsewhere;
use configurator::sdk::{BlockAction, BlockRequest, IntegrationError, IntegrationHandler};
use serde_json::{Map, Value as Json};
use sqlx::PgPool;

use super::{PlatformObject, store_task_error};

/// A handler of things that have a name in their params. Nothing is deleted that another living block of the instance
/// describes, and an update that gives it another name takes away what had the former one.
pub(super) struct NamedObjectHandler<H> {
    pub(super) pool: PgPool,
    pub(super) handler: H,
}

impl<H> NamedObjectHandler<H> {
    async fn is_described_elsewhere(
        &self,
        block_id: i64,
        name: &str,
    ) -> Result<bool, IntegrationError> {
        let described = is_described_elsewhere(&self.pool, block_id, "name", name)
            .await
            .map_err(store_task_error)?;
        if described {
            tracing::info!(
                block_id,
                name,
                "not deleted: another block of the template describes it"
            );
        }
        Ok(described)
    }
}

fn name(map: &Map<String, Json>) -> &str {
    map.get("name").and_then(Json::as_str).unwrap_or_default()
}

impl<H: IntegrationHandler<Params = Map<String, Json>, State = PlatformObject>> IntegrationHandler
    for NamedObjectHandler<H>
{
    const TASK_TYPE: &'static str = H::TASK_TYPE;
    type Params = Map<String, Json>;
    type State = PlatformObject;

    async fn handle(
        &self,
        request: BlockRequest<Self::Params>,
    ) -> Result<PlatformObject, IntegrationError> {
        let object_name = name(&request.params).to_owned();
        match request.action {
            BlockAction::Delete
                if self.is_described_elsewhere(request.block_id, &object_name).await? =>
            {
                Ok(PlatformObject { name: object_name })
            }
            BlockAction::Create | BlockAction::Delete => self.handler.handle(request).await,
            BlockAction::Update => {
                let former = name(&request.state).to_owned();
                let object = self.handler.handle(request.clone()).await?;
                if former.is_empty()
                    || former == object.name
                    || self.is_described_elsewhere(request.block_id, &former).await?
                {
                    return Ok(object);
                }
                let params = Map::from_iter([("name".to_owned(), former.clone().into())]);
                match self
                    .handler
                    .handle(BlockRequest { action: BlockAction::Delete, params, ..request })
                    .await
                {
                    Err(IntegrationError::Temporary(reason)) => {
                        Err(IntegrationError::Temporary(reason))
                    }
                    Err(IntegrationError::Permanent { code, args }) => {
                        // In use, say: as an orphan, it stays as it is.
                        tracing::warn!(
                            former,
                            name = object.name,
                            code,
                            ?args,
                            "a renamed thing is left under its former name"
                        );
                        Ok(object)
                    }
                    Ok(_) => Ok(object),
                }
            }
        }
    }
}
