//! Sync of action configs in the database of the settings.

use audit::AuditActor;
use events::configs::{
    ActionConfig, ActionConfigFilter, ActionConfigSteps, read_configs, sync_configs,
};
use events::history::latest_events;
use settings::ResolvedSettings;

use super::{ActionConfigOptions, EventHistory};
use crate::cli::CommandFailure;
use order_service::serve::database::{self, DatabaseAccess};
use order_service::settings::DatabaseSettings;

pub(super) async fn sync_database(
    resolved: &ResolvedSettings,
    desired_configs: &[ActionConfig],
    options: &ActionConfigOptions,
) -> Result<(ActionConfigSteps, Option<EventHistory>), CommandFailure> {
    let access =
        if options.dry_run { DatabaseAccess::Existing } else { DatabaseAccess::CreateMissing };
    let database =
        database::open_control_database(&DatabaseSettings::new(resolved)?, access).await?;
    let done = sync_pool(&database.pool, desired_configs, options).await;
    database.close().await;
    done.map_err(|error| CommandFailure::Failed(error.to_string()))
}

async fn sync_pool(
    pool: &store::PgPool,
    desired_configs: &[ActionConfig],
    options: &ActionConfigOptions,
) -> store::Result<(ActionConfigSteps, Option<EventHistory>)> {
    let mut history = None;
    if let Some(count) = options.history {
        let stored = store::run_statement(pool, "stored_action_configs", |connection| {
            Box::pin(async move { read_configs(connection, ActionConfigFilter::default()).await })
        });
        let stored = stored.await?;
        let (events, did) = latest_events(pool, count).await?;
        history = Some(EventHistory { events, started_configs: did, stored_configs: stored });
    }
    let actor = (!options.dry_run).then(AuditActor::of_command);
    Ok((
        sync_configs(pool, desired_configs.to_vec(), options.ownership_options(), actor).await?,
        history,
    ))
}
