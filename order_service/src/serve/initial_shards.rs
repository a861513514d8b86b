//! The shards of a database for which there is no shard map: made in it by the first start, and kept from then on.

use ::settings::SettingError;
use futures::future::BoxFuture;
use ledger::sharding::ShardMap;
use sqlx::{AssertSqlSafe, PgConnection};

use super::database::Database;
use crate::settings::InitialShards;

/// What is made if nobody says otherwise: on one server more shards only quarter every batch, and cost connections.
const DEFAULT_COUNT: usize = 1;
/// Databases from before `initial_shards` have so many, in schemas or databases named `shard_s0` and so on.
const EARLIER_COUNT: usize = 4;

/// The shards that are there; if there are none, `wanted` (or one) that are made now if `may_make`, or else would be. To
/// make them the control database has to be at this version's schema. Costs three round trips.
///
/// # Errors
/// [`SettingError`] if the database has another number of shards than is wanted.
pub(super) async fn load_or_make(
    wanted: Option<&InitialShards>,
    database: &Database,
    may_make: bool,
) -> anyhow::Result<ShardMap> {
    let count = wanted.map_or(DEFAULT_COUNT, |wanted| wanted.count);
    let is_embedded = database.embedded.is_some();
    let schemas = store::run_tx(&database.pool, "initial_shards", move |connection| {
        Box::pin(async move {
            let there = load(connection, is_embedded).await?;
            match there.is_empty() {
                false => Ok(there),
                true if may_make => make(connection, count, is_embedded).await,
                true => Ok(new_schemas(count)),
            }
        })
    })
    .await?;
    let there = schemas.len();
    if let Some(wanted) = wanted.filter(|wanted| wanted.count != there) {
        return Err(another_count(wanted, there).into());
    }
    ShardMap::equal(schemas).ok_or_else(|| anyhow::anyhow!("the table initial_shards names {there} shards"))
}

fn another_count(wanted: &InitialShards, there: usize) -> SettingError {
    let reason = format!(
        "{} are wanted, but this database was begun with {there}: leave the setting out (for more shards, see --shards)",
        wanted.count
    );
    SettingError::Invalid { name: "initial-shards", from: wanted.from.clone(), reason }
}

/// Each shard's schema (`None`: a database of its own), by range; nothing if none were ever made.
async fn load(connection: &mut PgConnection, is_embedded: bool) -> store::Result<Vec<Option<String>>> {
    let known =
        sqlx::query_scalar("SELECT to_regclass('initial_shards') IS NOT NULL -- initial_shards_known");
    if known.fetch_one(&mut *connection).await? {
        let stored =
            sqlx::query_scalar("SELECT schema FROM initial_shards ORDER BY ordinal -- read_initial_shards");
        let stored: Vec<Option<String>> = stored.fetch_all(&mut *connection).await?;
        if !stored.is_empty() {
            return Ok(stored);
        }
    }
    earlier(connection, is_embedded).await
}

/// The shards of a database from before they were written down.
async fn earlier(connection: &mut PgConnection, is_embedded: bool) -> store::Result<Vec<Option<String>>> {
    let earlier = "SELECT to_regnamespace('shard_s0') IS NOT NULL,
            EXISTS (SELECT FROM pg_database WHERE datname IN ('shard_s0', 'shard_s1', 'shard_s2', 'shard_s3'))
         -- earlier_shards";
    let (schemas, databases): (bool, bool) = sqlx::query_as(earlier).fetch_one(connection).await?;
    Ok(match (schemas, databases && is_embedded) {
        (true, _) => (0..EARLIER_COUNT).map(|n| Some(format!("shard_s{n}"))).collect(),
        (false, true) => vec![None; EARLIER_COUNT],
        (false, false) => Vec::new(),
    })
}

fn new_schemas(count: usize) -> Vec<Option<String>> {
    (0..count).map(|n| Some(format!("s{n}"))).collect()
}

/// Makes them and writes down which there are, unless another process has been quicker.
fn make(
    connection: &mut PgConnection,
    count: usize,
    is_embedded: bool,
) -> BoxFuture<'_, store::Result<Vec<Option<String>>>> {
    Box::pin(async move {
        sqlx::query("LOCK TABLE initial_shards IN SHARE ROW EXCLUSIVE MODE -- lock_initial_shards")
            .execute(&mut *connection)
            .await?;
        let there = load(connection, is_embedded).await?;
        if !there.is_empty() {
            return Ok(there);
        }
        let schemas = new_schemas(count);
        for schema in schemas.iter().flatten() {
            // One that is empty was made for us; one with something in it is somebody else's, and refused.
            if !is_empty_schema(connection, schema).await? {
                let create = format!("CREATE SCHEMA \"{schema}\" -- create_shard_schema");
                sqlx::query(AssertSqlSafe(create)).execute(&mut *connection).await?;
            }
        }
        let write = "INSERT INTO initial_shards (ordinal, schema)
             SELECT place - 1, schema FROM unnest($1::text[]) WITH ORDINALITY AS made (schema, place)
             -- write_initial_shards";
        sqlx::query(write).bind(&schemas).execute(connection).await?;
        Ok(schemas)
    })
}

/// Whether a schema is there with nothing in it.
async fn is_empty_schema(connection: &mut PgConnection, schema: &str) -> store::Result<bool> {
    let empty = "SELECT to_regnamespace($1) IS NOT NULL
            AND NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace($1)) -- empty_schema";
    Ok(sqlx::query_scalar(empty).bind(schema).fetch_one(connection).await?)
}
