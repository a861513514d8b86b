//! The targets that the settings name.

use std::sync::Arc;

use ledger::sharding::ShardMap;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::bundle::{OpenShard, ShardSet};
use crate::serve::database::{self, Access, Database};
use crate::serve::ledger::{configured_map, look_at, shard_map};
use crate::settings::{DatabaseSettings, QueueEngine};

/// Open targets.
pub(super) struct Targets {
    pub(super) targets: crate::bundle::Targets,
    database: Arc<Database>,
}

impl Targets {
    pub(super) async fn open(
        settings: &DatabaseSettings,
        queues: &QueueEngine,
        access: Access,
    ) -> anyhow::Result<Self> {
        let database = Arc::new(database::open(settings, access).await?);
        let map = Arc::new(shard_map(settings, &database).await?);
        let names = names(&map);
        let (asked, there) = (settings.clone(), database.clone());
        let open: OpenShard = Box::new(move |name| {
            let (settings, database, map) = (asked.clone(), there.clone(), map.clone());
            Box::pin(async move {
                let place = map.shards().iter().find(|place| place.name == name);
                let place = place.ok_or_else(|| format!("there is no shard {name}"))?;
                look_at(&settings, &database, place).await.map_err(|error| format!("{error:#}"))
            })
        });
        let shards = ShardSet::new(names, open);
        let targets = crate::bundle::Targets::new(database.pool.clone(), shards).with_queues(queues);
        Ok(Self { targets, database })
    }

    pub(super) async fn close(self) {
        self.database.close().await;
    }
}

/// Targets that cannot be reached, for who only decides.
pub(super) fn none(settings: &DatabaseSettings) -> anyhow::Result<crate::bundle::Targets> {
    let nowhere = PgPoolOptions::new().connect_lazy_with(PgConnectOptions::new());
    let open: OpenShard = Box::new(|name| Box::pin(async move { Err(format!("shard {name} is not open")) }));
    // Those in the control database are only known there.
    let names = configured_map(settings)?.map(|map| names(&map)).unwrap_or_default();
    Ok(crate::bundle::Targets::new(nowhere, ShardSet::new(names, open)))
}

fn names(map: &ShardMap) -> Vec<String> {
    map.shards().iter().map(|place| place.name.clone()).collect()
}
