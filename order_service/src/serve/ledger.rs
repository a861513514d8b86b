//! The ledger's shards: those of the shard map, or those that need no configuration, in the control database.

use anyhow::Context as _;
use ledger::sharding::{Shard, ShardMap, ShardPlace, Shards};
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use store::{Migrations, PgConnectOptions, PoolSettings, parse_url};

use super::database::{self, Access, Database};
use super::{connections, initial_shards};
use crate::settings::DatabaseSettings;

/// The shard map that the settings name, if they name one: known before a database is asked.
pub fn configured_map(settings: &DatabaseSettings) -> anyhow::Result<Option<ShardMap>> {
    let Some(file) = &settings.shards else { return Ok(None) };
    let name = file.display();
    let yaml = std::fs::read_to_string(file).with_context(|| format!("--shards {name}"))?;
    ShardMap::parse(&yaml).map(Some).map_err(|reason| anyhow::anyhow!("--shards {name}: {reason}"))
}

/// The shard map that the settings name, or that of the shards in the control database; in an embedded one they are made if
/// there are none and `database` was opened to create what is missing.
pub async fn shard_map(settings: &DatabaseSettings, database: &Database) -> anyhow::Result<ShardMap> {
    let may_make = database.embedded.is_some() && database.access == Access::CreateMissing;
    known_or_made(settings, database, may_make).await
}

/// The same, for `migrate`, which makes them in any database.
pub async fn shard_map_to_migrate(
    settings: &DatabaseSettings,
    database: &Database,
    dry_run: bool,
) -> anyhow::Result<ShardMap> {
    known_or_made(settings, database, !dry_run).await
}

async fn known_or_made(
    settings: &DatabaseSettings,
    database: &Database,
    may_make: bool,
) -> anyhow::Result<ShardMap> {
    match configured_map(settings)? {
        Some(map) => Ok(map),
        None => initial_shards::load_or_make(settings.initial_shards.as_ref(), database, may_make).await,
    }
}

/// Opens the shards, as the control database was opened: with [`Access::CreateMissing`] embedded ones are created and migrated as
/// needed; others must be at this version's schema.
pub async fn open(settings: &DatabaseSettings, database: &Database) -> anyhow::Result<Shards> {
    let map = shard_map(settings, database).await?;
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
    place: &ShardPlace,
) -> anyhow::Result<Option<Shard>> {
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
        return Ok((options?, place.schema.clone()));
    }
    match (&place.schema, &database.embedded) {
        (Some(schema), _) => {
            let options: PgConnectOptions = (*database.pool.connect_options()).clone();
            Ok((options, Some(schema.clone())))
        }
        (None, Some(embedded)) => {
            let name = database_name(place);
            database::provide(embedded, &name, database.access, settings.startup_timeout).await?;
            Ok((embedded.options(&name), None))
        }
        (None, None) => anyhow::bail!("shard {} has neither a URL nor a schema", place.name),
    }
}

/// Of a shard of an embedded cluster from before shards lay in schemas.
fn database_name(place: &ShardPlace) -> String {
    format!("shard_{}", place.name)
}

/// Whether the database of a shard is there. Only one of an embedded cluster may be missing.
pub async fn is_there(
    settings: &DatabaseSettings,
    database: &Database,
    place: &ShardPlace,
) -> anyhow::Result<bool> {
    match (&place.url, &place.schema, &database.embedded) {
        (None, None, Some(embedded)) => {
            let (name, access) = (database_name(place), Access::Existing);
            database::is_there(embedded, &name, access, settings.startup_timeout).await
        }
        _ => Ok(true),
    }
}

/// What a shard lacks, and, unless it is a dry run, brings it there, with the schema in which it lies.
pub async fn migrate(pool: &PgPool, place: &ShardPlace, dry_run: bool) -> anyhow::Result<Vec<(i64, String)>> {
    let migrations = Migrations::shard();
    let mut connection = database::migrating(pool).await?;
    if let Some(schema) = place.schema.as_ref().filter(|_| !dry_run)
        && !has_schema(&mut connection, schema).await?
    {
        let create = format!("CREATE SCHEMA \"{schema}\" -- provide_shard_schema");
        let created = sqlx::query(AssertSqlSafe(create)).execute(&mut *connection).await;
        // Another `migrate` may have been quicker.
        if created.is_err() && !has_schema(&mut connection, schema).await? {
            created.context("creating a schema")?;
        }
    }
    let pending = migrations.pending(&mut connection).await?;
    if !dry_run {
        migrations.apply(&mut connection).await?;
    }
    Ok(pending)
}

/// Asked first: also a role that may not create schemas may migrate what lies in one.
async fn has_schema(connection: &mut PgConnection, schema: &str) -> sqlx::Result<bool> {
    let there = sqlx::query_scalar("SELECT to_regnamespace($1) IS NOT NULL -- has_shard_schema");
    there.bind(schema).fetch_one(connection).await
}
