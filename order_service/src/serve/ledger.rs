//! The ledger's shards: those of the shard map, or four that need no configuration, beside the control database.

use anyhow::Context as _;
use ledger::sharding::{Shard, ShardMap, ShardPlace, Shards};
use sqlx::{AssertSqlSafe, PgPool};
use store::{Migrations, PgConnectOptions, PoolSettings, parse_url};

use super::connections;
use super::database::{self, Access, Database};
use crate::settings::DatabaseSettings;

/// The shard map that the settings name, or the one that holds when nothing is configured.
pub fn shard_map(settings: &DatabaseSettings) -> anyhow::Result<ShardMap> {
    let Some(file) = &settings.shards else { return Ok(ShardMap::four()) };
    let name = file.display();
    let yaml = std::fs::read_to_string(file).with_context(|| format!("--shards {name}"))?;
    ShardMap::parse(&yaml).map_err(|reason| anyhow::anyhow!("--shards {name}: {reason}"))
}

/// Opens the shards, as the control database was opened: with [`Access::CreateMissing`] embedded ones are created and migrated as
/// needed; others must be at this version's schema.
pub async fn open(settings: &DatabaseSettings, database: &Database) -> anyhow::Result<Shards> {
    let map = shard_map(settings)?;
    let pools = reach(settings, database, &map).await?;
    if database.access == Access::Existing {
        return Ok(Shards::open_existing(map, pools).await?);
    }
    let migrate = settings.shards.is_none() && database.embedded.is_some();
    Ok(Shards::open(map, pools, migrate).await?)
}

/// One of the shards, if it has anything in it, for somebody who leaves it its schema.
pub async fn look_at(
    settings: &DatabaseSettings,
    database: &Database,
    name: &str,
) -> anyhow::Result<Option<Shard>> {
    let map = shard_map(settings)?;
    let place = map.shards().iter().find(|place| place.name == name);
    let place = place.with_context(|| format!("there is no shard {name}"))?;
    if database.access == Access::Existing && !is_there(settings, database, place).await? {
        return Ok(None);
    }
    let pool = reach_one(settings, database, place).await?;
    Ok(Shards::look_at(place, pool).await?)
}

/// The shards' databases whatever their schema version, by range.
async fn reach(
    settings: &DatabaseSettings,
    database: &Database,
    map: &ShardMap,
) -> anyhow::Result<Vec<PgPool>> {
    let pools = map.shards().iter().map(|place| reach_one(settings, database, place));
    futures::future::try_join_all(pools).await
}

/// One of the shards' databases whatever its schema version.
pub async fn reach_one(
    settings: &DatabaseSettings,
    database: &Database,
    place: &ShardPlace,
) -> anyhow::Result<PgPool> {
    let (options, schema) = options(settings, database, place).await?;
    let pool = PoolSettings {
        name: "shards",
        max_connections: connections::of_shard(settings.shard_connections),
        patience: settings.startup_timeout,
        application_name: "order_service".to_owned(),
        session: schema.map(|schema| ("search_path", schema)).into_iter().collect(),
    };
    let shard = || format!("shard {}", place.name);
    let pool = store::connect(options, &pool).await.with_context(shard)?;
    if place.url.is_some() && database.access == Access::CreateMissing {
        store::wait_until_writable(&pool, settings.startup_timeout).await.with_context(shard)?;
    }
    Ok(pool)
}

/// How to connect to a shard's database, and the schema in which it lies if it has no database of its own.
async fn options(
    settings: &DatabaseSettings,
    database: &Database,
    place: &ShardPlace,
) -> anyhow::Result<(PgConnectOptions, Option<String>)> {
    if let Some(url) = &place.url {
        let url = url.read().map_err(|reason| anyhow::anyhow!("shard {}: {reason}", place.name))?;
        let options = parse_url(&url);
        let options = options.map_err(|reason| anyhow::anyhow!("shard {}: its URL {reason}", place.name));
        return Ok((options?, None));
    }
    let name = database_name(place);
    match (&database.embedded, &settings.url) {
        (Some(embedded), _) => {
            database::provide(embedded, &name, database.access, settings.startup_timeout).await?;
            Ok((embedded.options(&name), None))
        }
        // Somebody's Postgres and no shard map: schemas of the control database.
        (None, Some(url)) => Ok((url.clone(), Some(name))),
        (None, None) => anyhow::bail!("neither an embedded cluster nor a database URL"),
    }
}

/// Of a shard beside the control database: its database in an embedded cluster, or its schema.
fn database_name(place: &ShardPlace) -> String {
    format!("shard_{}", place.name)
}

/// Whether the database of a shard is there. Only one in an embedded cluster may be missing.
pub async fn is_there(
    settings: &DatabaseSettings,
    database: &Database,
    place: &ShardPlace,
) -> anyhow::Result<bool> {
    match (&place.url, &database.embedded) {
        (None, Some(embedded)) => {
            let (name, access) = (database_name(place), Access::Existing);
            database::is_there(embedded, &name, access, settings.startup_timeout).await
        }
        _ => Ok(true),
    }
}

/// Makes the schemas in which shards lie that have no database of their own.
pub async fn create_schemas(settings: &DatabaseSettings, database: &Database) -> anyhow::Result<()> {
    if settings.shards.is_some() || database.embedded.is_some() {
        return Ok(());
    }
    for place in shard_map(settings)?.shards() {
        let create = format!("CREATE SCHEMA IF NOT EXISTS shard_{} -- create_shard_schema", place.name);
        sqlx::query(AssertSqlSafe(create))
            .execute(&database.pool)
            .await
            .context("creating a shard's schema")?;
    }
    Ok(())
}

/// What a shard lacks, and, unless it is a dry run, brings it there.
pub async fn migrate(pool: &PgPool, dry_run: bool) -> anyhow::Result<Vec<(i64, String)>> {
    let migrations = Migrations::shard();
    let mut connection = database::migrating(pool).await?;
    let pending = migrations.pending(&mut connection).await?;
    if !dry_run {
        migrations.apply(&mut connection).await?;
    }
    Ok(pending)
}
