//! Reconcile targets of the settings.

use std::sync::Arc;

use ledger::sharding::ShardMap;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use order_service::reconcilers::bundle::{ShardOpener, ShardSet};
use order_service::serve::database::{self, ControlDatabase, DatabaseAccess};
use order_service::serve::ledger::{
    load_configured_shard_map, load_shard_map, open_existing_shard,
};
use order_service::settings::{DatabaseSettings, QueueEngine};

/// Open targets and their database.
pub(super) struct OpenReconcileTargets {
    pub(super) targets: order_service::reconcilers::bundle::ReconcileTargets,
    database: Arc<ControlDatabase>,
}

impl OpenReconcileTargets {
    pub(super) async fn open(
        settings: &DatabaseSettings,
        queues: &QueueEngine,
        access: DatabaseAccess,
    ) -> anyhow::Result<Self> {
        let database = Arc::new(database::open_control_database(settings, access).await?);
        let map = Arc::new(load_shard_map(settings, &database).await?);
        let names = shard_names(&map);
        let (shared_settings, shared_database) = (settings.clone(), database.clone());
        let open: ShardOpener = Box::new(move |name| {
            let (settings, database, map) =
                (shared_settings.clone(), shared_database.clone(), map.clone());
            Box::pin(async move {
                let definition = map.shards().iter().find(|place| place.name == name);
                let definition = definition.ok_or_else(|| format!("there is no shard {name}"))?;
                open_existing_shard(&settings, &database, definition)
                    .await
                    .map_err(|error| format!("{error:#}"))
            })
        });
        let shards = ShardSet::new(names, open);
        let targets = order_service::reconcilers::bundle::ReconcileTargets::new(
            database.pool.clone(),
            shards,
        )
        .with_queues(queues);
        Ok(Self { targets, database })
    }

    pub(super) async fn close(self) {
        self.database.close().await;
    }
}

/// Targets without connections, for deciding offline.
pub(super) fn unreachable_targets(
    settings: &DatabaseSettings,
) -> anyhow::Result<order_service::reconcilers::bundle::ReconcileTargets> {
    let lazy_pool = PgPoolOptions::new().connect_lazy_with(PgConnectOptions::new());
    let open: ShardOpener =
        Box::new(|name| Box::pin(async move { Err(format!("shard {name} is not open")) }));
    // Shards without a map are known only to the control database.
    let names =
        load_configured_shard_map(settings)?.map(|map| shard_names(&map)).unwrap_or_default();
    Ok(order_service::reconcilers::bundle::ReconcileTargets::new(
        lazy_pool,
        ShardSet::new(names, open),
    ))
}

fn shard_names(map: &ShardMap) -> Vec<String> {
    map.shards().iter().map(|definition| definition.name.clone()).collect()
}
