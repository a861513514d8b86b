//! Shards of a control database without a shard map: created by the first start, then fixed.

use ::settings::SettingError;
use futures::future::BoxFuture;
use ledger::sharding::ShardMap;
use sqlx::PgConnection;

use super::database::ControlDatabase;
use crate::settings::InitialShardSettings;

/// Default shard count: on one server more shards only split every batch and cost connections.
const DEFAULT_SHARD_COUNT: usize = 1;

/// Stored shards. Without any, creates the `requested` ones (default one) if `may_create`, or else
/// only names them. Creating needs this version's schema in the control database. Two round trips.
///
/// # Errors
/// [`SettingError`] if the database has another number of shards than is wanted.
pub(super) async fn load_or_create_shards(
    requested: Option<&InitialShardSettings>,
    database: &ControlDatabase,
    may_create: bool,
) -> anyhow::Result<ShardMap> {
    let count = requested.map_or(DEFAULT_SHARD_COUNT, |wanted| wanted.count);
    let schemas = store::transaction("initial_shards", (count, may_create))
        .run(&database.pool, |connection, (count, may_create)| {
            Box::pin(load_or_create_schemas_in_tx(connection, *count, *may_create))
        })
        .await?;
    let there = schemas.len();
    if let Some(wanted) = requested.filter(|wanted| wanted.count != there) {
        return Err(shard_count_error(wanted, there).into());
    }
    ShardMap::with_equal_ranges(schemas.into_iter().map(Some).collect())
        .ok_or_else(|| anyhow::anyhow!("the table initial_shards names {there} shards"))
}

fn shard_count_error(requested: &InitialShardSettings, there: usize) -> SettingError {
    let reason = format!(
        "{} are wanted, but this database was begun with {there}: leave the setting out (for more shards, see --shards)",
        requested.count
    );
    SettingError::Invalid { name: "initial-shards", from: requested.source.clone(), reason }
}

async fn load_or_create_schemas_in_tx(
    connection: &mut PgConnection,
    count: usize,
    may_create: bool,
) -> store::Result<Vec<String>> {
    let stored_schemas = load_shard_schemas(connection).await?;
    match stored_schemas.is_empty() {
        false => Ok(stored_schemas),
        true if may_create => create_shard_schemas(connection, count).await,
        true => Ok(new_schema_names(count)),
    }
}

/// Each shard's schema, by range; empty if no shards were created yet.
async fn load_shard_schemas(connection: &mut PgConnection) -> store::Result<Vec<String>> {
    let is_table_known = store::statement(
        "initial_shards_known",
        "SELECT to_regclass('initial_shards') IS NOT NULL",
    );
    if !is_table_known.fetch_value(&mut *connection).await? {
        return Ok(Vec::new());
    }
    store::statement("read_initial_shards", "SELECT schema FROM initial_shards ORDER BY ordinal")
        .fetch_values(connection)
        .await
}

fn new_schema_names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("s{n}")).collect()
}

/// Creates and records the schemas under a table lock. Returns the stored ones if another process
/// was first.
fn create_shard_schemas(
    connection: &mut PgConnection,
    count: usize,
) -> BoxFuture<'_, store::Result<Vec<String>>> {
    Box::pin(async move {
        store::statement(
            "lock_initial_shards",
            "LOCK TABLE initial_shards IN SHARE ROW EXCLUSIVE MODE",
        )
        .execute(&mut *connection)
        .await?;
        let stored_schemas = load_shard_schemas(connection).await?;
        if !stored_schemas.is_empty() {
            return Ok(stored_schemas);
        }
        let schemas = new_schema_names(count);
        for schema in &schemas {
            // An operator may have created an empty schema. CREATE SCHEMA fails for one with
            // content, which belongs to another owner.
            if !is_empty_schema(connection, schema).await? {
                let create = format!("CREATE SCHEMA \"{schema}\"");
                store::statement("create_shard_schema", create).execute(&mut *connection).await?;
            }
        }
        store::statement("write_initial_shards", WRITE_INITIAL_SHARDS_SQL)
            .bind(&schemas)
            .execute(connection)
            .await?;
        Ok(schemas)
    })
}

/// Whether a schema exists and has no relations and no functions.
async fn is_empty_schema(connection: &mut PgConnection, schema: &str) -> store::Result<bool> {
    store::statement("empty_schema", IS_EMPTY_SCHEMA_SQL).bind(schema).fetch_value(connection).await
}

const WRITE_INITIAL_SHARDS_SQL: &str = "INSERT INTO initial_shards (ordinal, schema)
SELECT place - 1, schema FROM unnest($1::text[]) WITH ORDINALITY AS made (schema, place)";

const IS_EMPTY_SCHEMA_SQL: &str = "SELECT to_regnamespace($1) IS NOT NULL
    AND NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace($1))
    AND NOT EXISTS (SELECT FROM pg_proc WHERE pronamespace = to_regnamespace($1))";
