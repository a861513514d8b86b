//! Ledger shards: those of the shard map, or by default schemas of the control database.

use anyhow::Context as _;
use ledger::sharding::{LedgerShards, Shard, ShardDefinition, ShardMap};
use sqlx::{PgConnection, PgPool};
use store::{MigrationSet, PendingChange, PgConnectOptions, PoolSettings, parse_database_url};

use super::database::{self, ControlDatabase, DatabaseAccess};
use super::initial_shards;
use crate::settings::{DatabaseSettings, database_connections};

/// Shard map of `--shards`, if set; needs no database.
pub fn load_configured_shard_map(settings: &DatabaseSettings) -> anyhow::Result<Option<ShardMap>> {
    let Some(file) = &settings.shards else { return Ok(None) };
    let name = file.display();
    let yaml = std::fs::read_to_string(file).with_context(|| format!("--shards {name}"))?;
    ShardMap::parse(&yaml).map(Some).map_err(|reason| anyhow::anyhow!("--shards {name}: {reason}"))
}

/// Shard map of `--shards`, or of the shards in the control database. In an embedded cluster
/// missing shards are created if `database` was opened with [`DatabaseAccess::CreateMissing`].
pub async fn load_shard_map(
    settings: &DatabaseSettings,
    database: &ControlDatabase,
) -> anyhow::Result<ShardMap> {
    let may_create =
        database.embedded.is_some() && database.access == DatabaseAccess::CreateMissing;
    load_or_create_shard_map(settings, database, may_create).await
}

/// Like [`load_shard_map`], for the command `migrate`, which creates shards in any database.
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

/// Opens the shards with the access of the control database. With [`DatabaseAccess::CreateMissing`]
/// embedded shards are created and migrated; others must have this version's schema.
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

/// One shard, `None` if its database is empty. Never migrates it.
pub async fn open_existing_shard(
    settings: &DatabaseSettings,
    database: &ControlDatabase,
    definition: &ShardDefinition,
) -> anyhow::Result<Option<Shard>> {
    let pool = connect_shard(settings, database, definition).await?;
    Ok(LedgerShards::open_if_present(definition, pool).await?)
}

/// Pools of the shards by range, without a check of the schema version.
async fn connect_shards(
    settings: &DatabaseSettings,
    database: &ControlDatabase,
    map: &ShardMap,
) -> anyhow::Result<Vec<PgPool>> {
    let pools = map.shards().iter().map(|definition| connect_shard(settings, database, definition));
    futures::future::try_join_all(pools).await
}

/// Pool of one shard, without a check of the schema version.
pub async fn connect_shard(
    settings: &DatabaseSettings,
    database: &ControlDatabase,
    definition: &ShardDefinition,
) -> anyhow::Result<PgPool> {
    let (options, schema) = shard_connect_options(database, definition)?;
    let pool = PoolSettings {
        name: "shards",
        max_connections: database_connections::shard_pool_size(settings.shard_connections),
        connect_timeout: settings.startup_timeout,
        application_name: "order_service".to_owned(),
        session: schema.map(|schema| ("search_path", schema)).into_iter().collect(),
    };
    let shard = format!("shard {}", definition.name);
    let pool = store::connect_pool(options, &pool).await.with_context(|| shard.clone())?;
    if definition.url.is_some() && database.access == DatabaseAccess::CreateMissing {
        store::wait_until_writable(&pool, settings.startup_timeout).await.context(shard)?;
    }
    Ok(pool)
}

/// Connect options of a shard's database, and its schema if it shares the database.
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

/// Pending migrations of a shard. Applies them, and creates the schema, unless `dry_run`.
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
        let create = format!("CREATE SCHEMA \"{schema}\"");
        let created =
            store::statement("provide_shard_schema", create).execute(&mut *connection).await;
        // A concurrent `migrate` may have created it.
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

/// Checked before CREATE SCHEMA: a role without the CREATE privilege may still migrate an existing
/// schema.
async fn has_schema(connection: &mut PgConnection, schema: &str) -> store::Result<bool> {
    store::statement("has_shard_schema", "SELECT to_regnamespace($1) IS NOT NULL")
        .bind(schema)
        .fetch_value(connection)
        .await
}
