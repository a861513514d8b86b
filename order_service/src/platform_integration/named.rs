//! Mapping of blocks to named platform objects: the platform knows objects by name, templates by
//! block.

use configurator::BlockId;
use configurator::run::is_described_elsewhere;
use configurator::sdk::{BlockAction, BlockRequest, IntegrationError, IntegrationHandler};
use serde_json::{Map, Value as Json};
use sqlx::PgPool;

use super::{PlatformObject, store_task_error};

/// Handler for objects with a name in their params. It does not delete an object that another
/// active block of the instance describes. An update that renames an object deletes the old name.
pub(super) struct NamedObjectHandler<H> {
    pub(super) pool: PgPool,
    pub(super) handler: H,
}

impl<H> NamedObjectHandler<H> {
    async fn is_described_elsewhere(
        &self,
        block_id: BlockId,
        name: &str,
    ) -> Result<bool, IntegrationError> {
        let described = is_described_elsewhere(&self.pool, block_id, "name", name)
            .await
            .map_err(store_task_error)?;
        if described {
            tracing::info!(
                block_id = block_id.get(),
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
                        // For example still in use: it stays as an orphan.
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
