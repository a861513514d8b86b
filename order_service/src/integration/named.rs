//! What the platform makes from blocks is known by its name, and blocks by theirs: this looks after the difference.

use configurator::run::described_elsewhere;
use configurator::sdk::{Action, Handler, Request, TaskError};
use serde_json::{Map, Value as Json};
use sqlx::PgPool;

use super::{Made, failed};

/// A handler of things that have a name in their params. Nothing is deleted that another living block of the instance
/// describes, and an update that gives it another name takes away what had the former one.
pub(super) struct ByName<H> {
    pub(super) pool: PgPool,
    pub(super) handler: H,
}

impl<H> ByName<H> {
    async fn is_described(&self, block_id: i64, name: &str) -> Result<bool, TaskError> {
        let described = described_elsewhere(&self.pool, block_id, "name", name).await.map_err(failed)?;
        if described {
            tracing::info!(block_id, name, "not deleted: another block of the template describes it");
        }
        Ok(described)
    }
}

fn name(map: &Map<String, Json>) -> &str {
    map.get("name").and_then(Json::as_str).unwrap_or_default()
}

impl<H: Handler<Params = Map<String, Json>, State = Made>> Handler for ByName<H> {
    const TASK_TYPE: &'static str = H::TASK_TYPE;
    type Params = Map<String, Json>;
    type State = Made;

    async fn handle(&self, request: Request<Self::Params>) -> Result<Made, TaskError> {
        let own = name(&request.params).to_owned();
        match request.action {
            Action::Delete if self.is_described(request.block_id, &own).await? => Ok(Made { name: own }),
            Action::Create | Action::Delete => self.handler.handle(request).await,
            Action::Update => {
                let former = name(&request.state).to_owned();
                let made = self.handler.handle(request.clone()).await?;
                if former.is_empty()
                    || former == made.name
                    || self.is_described(request.block_id, &former).await?
                {
                    return Ok(made);
                }
                let params = Map::from_iter([("name".to_owned(), former.clone().into())]);
                match self.handler.handle(Request { action: Action::Delete, params, ..request }).await {
                    Err(TaskError::Temporary(reason)) => Err(TaskError::Temporary(reason)),
                    Err(TaskError::Permanent { code, args }) => {
                        // In use, say: as an orphan, it stays as it is.
                        tracing::warn!(
                            former,
                            name = made.name,
                            code,
                            ?args,
                            "a renamed thing is left under its former name"
                        );
                        Ok(made)
                    }
                    Ok(_) => Ok(made),
                }
            }
        }
    }
}
