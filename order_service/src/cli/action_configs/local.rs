//! In the database of the settings.

use events::configs::{ActionConfig, Steps, read, sync};
use events::history::latest;
use settings::Resolved;

use super::{Asked, Past};
use crate::cli::Failure;
use crate::serve::database::{self, Access};
use crate::settings::DatabaseSettings;

pub(super) async fn run(
    resolved: &Resolved,
    wanted: &[ActionConfig],
    asked: &Asked,
) -> Result<(Steps, Option<Past>), Failure> {
    let access = if asked.dry_run { Access::Existing } else { Access::CreateMissing };
    let database = database::open(&DatabaseSettings::new(resolved)?, access).await?;
    let done = within(&database.pool, wanted, asked).await;
    database.close().await;
    done.map_err(|error| Failure::Failed(error.to_string()))
}

async fn within(
    pool: &store::PgPool,
    wanted: &[ActionConfig],
    asked: &Asked,
) -> store::Result<(Steps, Option<Past>)> {
    let mut past = None;
    if let Some(count) = asked.history {
        let stored = store::run(pool, "stored_action_configs", |connection| {
            Box::pin(async move { read(connection, None, None, None).await })
        });
        let stored = stored.await?;
        let (events, did) = latest(pool, count).await?;
        past = Some(Past { events, did, stored });
    }
    Ok((sync(pool, wanted.to_vec(), asked.terms(), asked.dry_run).await?, past))
}
