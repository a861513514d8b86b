//! The ledger's shards: those of the shard map, or those that need no configuration, in the control database.

use anyhow::Context as _;
use ledger::sharding::{LedgerShards, Shard, ShardDefinition, ShardMap};
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use store::{MigrationSet, PendingChange, PgConnectOptions, PoolSettings, parse_database_url};

use super::database::{self, ControlDatabase, DatabaseAccess};
use super::{connections, initial_shards};
use crate::settings::DatabaseSettings;

/// The shard map that the settings name, if they name one: known before a database is asked.
pub fn load_configured_shard_map(settings: &DatabaseSettings) -> anyhow::Result<Option<ShardMap>> {
    let Some(file) = &settings.shards else { return Ok(None) };
    let name = file.display();
    let yaml = std::fs::read_to_string(file).with_context(|| format!("--shards {name}"))?;
    ShardMap::parse(&yaml).map(Some).map_err(|reason| anyhow::anyhow!("--shards {name}: {reason}"))
}

/// The shard map that the settings name, or that of the shards in the control database; in an embedded one they are made if
/// there are none and `database` was opened to create what is missing.
pub async fn load_shard_map(
    settings: &DatabaseSettings,
    database: &ControlDatabase,
) -> anyhow::Result<ShardMap> {
    let may_create =
        database.embedded.is_some() && database.access == DatabaseAccess::CreateMissing;
    load_or_create_shard_map(settings, database, may_create).await
}

/// The same, for `migrate_shard`, which makes them in any database.
pub async fn load_shard_map_to_migrate(
    settings: &DatabaseSettings,
    database: &ControlDatabase,
    dry_run: bool,
) -> anyhow::Result<ShardMap> {
    load_or_create_shard_map(settings, database, !dry_run).await
}

async fn load_or_create_shard_map(
    settings: &DatabaseSettings,
    database: &ControlDatabase,
    may_create: bool,
) -> anyhow::Result<ShardMap> {
    match load_configured_shard_map(settings)? {
        Some(map) => Ok(map),
        None => {
            initial_shards::load_or_create_shards(
                settings.initial_shards.as_ref(),
                database,
                may_create,
            )
            .await
        }
    }
}

/// Opens the shards, as the control database was opened: with [`DatabaseAccess::CreateMissing`] embedded ones are created and migrated as
/// needed; others must be at this version's schema.
pub async fn open_shards(
    settings: &DatabaseSettings,
    database: &ControlDatabase,
) -> anyhow::Result<LedgerShards> {
    let map = load_shard_map(settings, database).await?;
    let pools = connect_shards(settings, database, &map).await?;
    if database.access == DatabaseAccess::Existing {
        return Ok(LedgerShards::open_read_only(map, pools).await?);
    }
    let migrate = settings.shards.is_none() && database.embedded.is_some();
    Ok(LedgerShards::open(map, pools, migrate).await?)
}

/// One of the shards, if it has anything in it, for somebody who leaves it its schema.
pub async fn open_existing_shard(
    settings: &DatabaseSettings,
    database: &ControlDatabase,
    definition: &ShardDefinition,
) -> anyhow::Result<Option<Shard>> {
    let pool = connect_shard(settings, database, definition).await?;
    Ok(LedgerShards::open_if_present(definition, pool).await?)
}

/// The shards' databases whatever their schema version, by range.
async fn connect_shards(
    settings: &DatabaseSettings,
    database: &ControlDatabase,
    map: &ShardMap,
) -> anyhow::Result<Vec<PgPool>> {
    let pools = map.shards().iter().map(|definition| connect_shard(settings, database, definition));
    futures::future::try_join_all(pools).await
}

/// One of the shards' databases whatever its schema version.
pub async fn connect_shard(
    settings: &DatabaseSettings,
    database: &ControlDatabase,
    definition: &ShardDefinition,
) -> anyhow::Result<PgPool> {
    let (options, schema) = shard_connect_options(database, definition)?;
    let pool = PoolSettings {
        name: "shards",
        max_connections: connections::shard_pool_size(settings.shard_connections),
        connect_timeout: settings.startup_timeout,
        application_name: "order_service".to_owned(),
        session: schema.map(|schema| ("search_path", schema)).into_iter().collect(),
    };
    let shard = || format!("shard {}", definition.name);
    let pool = store::connect_pool(options, &pool).await.with_context(shard)?;
    if definition.url.is_some() && database.access == DatabaseAccess::CreateMissing {
        store::wait_until_writable(&pool, settings.startup_timeout).await.with_context(shard)?;
    }
    Ok(pool)
}

/// How to connect to a shard's database, and the schema in which it lies if it has no database of its own.
fn shard_connect_options(
    database: &ControlDatabase,
    definition: &ShardDefinition,
) -> anyhow::Result<(PgConnectOptions, Option<String>)> {
    if let Some(url) = &definition.url {
        let url = url
            .read_url()
            .map_err(|reason| anyhow::anyhow!("shard {}: {reason}", definition.name))?;
        let options = parse_database_url(&url);
        let options = options
            .map_err(|reason| anyhow::anyhow!("shard {}: its URL {reason}", definition.name));
        return Ok((options?, definition.schema.clone()));
    }
    let Some(schema) = &definition.schema else {
        anyhow::bail!("shard {} has neither a URL nor a schema", definition.name)
    };
    let options: PgConnectOptions = (*database.pool.connect_options()).clone();
    Ok((options, Some(schema.clone())))
}

/// What a shard lacks, and, unless it is a dry run, brings it there, with the schema in which it lies.
pub async fn migrate_shard(
    pool: &PgPool,
    definition: &ShardDefinition,
    dry_run: bool,
) -> anyhow::Result<Vec<PendingChange>> {
    let migrations = MigrationSet::shard();
    let mut connection = database::take_migration_connection(pool).await?;
    if let Some(schema) = definition.schema.as_ref().filter(|_| !dry_run)
        && !has_schema(&mut connection, schema).await?
    {
        let create = format!("CREATE SCHEMA \"{schema}\" -- provide_shard_schema");
        let created = sqlx::query(AssertSqlSafe(create)).execute(&mut *connection).await;
        // Another `migrate_shard` may have been quicker.
        if created.is_err() && !has_schema(&mut connection, schema).await? {
            created.context("creating a schema")?;
        }
    }
    let pending = migrations.list_pending(&mut connection).await?;
    if !dry_run {
        migrations.apply_pending(&mut connection).await?;
    }
    Ok(pending)
}

/// Asked first: also a role that may not create schemas may migrate what lies in one.
async fn has_schema(connection: &mut PgConnection, schema: &str) -> sqlx::Result<bool> {
    let query = sqlx::query_scalar("SELECT to_regnamespace($1) IS NOT NULL -- has_shard_schema");
    query.bind(schema).fetch_one(connection).await
}
