//! Shard databases, opened and checked against the shard map.
//!
//! - Shape: each shard's schema has one row in `shard_identity`, with the shard's name and range.
//! - Promise: a database that carries the identity of another shard is refused; identity is claimed
//!   once and never overwritten.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use store::{DedicatedConnection, MigrationError, MigrationSet};

use super::{ShardDefinition, ShardHash, ShardMap, ShardRange};

/// An open shard.
#[derive(Debug, Clone)]
pub struct Shard {
    /// Shard name, unique within the map.
    pub name: String,
    /// Hashes that the shard owns.
    pub range: ShardRange,
    /// Connection pool of its database.
    pub pool: PgPool,
}

/// All open shards; clones share them.
#[derive(Debug, Clone)]
pub struct LedgerShards {
    map: Arc<ShardMap>,
    shards: Arc<[Shard]>,
}

/// Reason why a shard's database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ShardOpenError {
    /// The schema version does not fit this program.
    #[error("shard {shard}: {cause}")]
    Schema {
        /// Name of the shard.
        shard: String,
        /// Cause reported by the migrations.
        cause: MigrationError,
    },
    /// The database belongs to another shard.
    #[error(
        "shard {shard} with the range {range:?}: the database carries shard {found} with the range {found_range:?}; \
         the shard map is wrong"
    )]
    AnotherShard {
        /// Name of the shard in the map.
        shard: String,
        /// Range in the map. Boxed, like `found_range`, to keep the error type small.
        range: Box<[String; 2]>,
        /// Name of the shard in the database.
        found: String,
        /// Range in the database, boxed as well.
        found_range: Box<[String; 2]>,
    },
    /// The database is unavailable or refuses.
    #[error("shard {shard}: {cause}")]
    Database {
        /// Name of the shard.
        shard: String,
        /// Error of the database.
        cause: store::Error,
    },
}

impl LedgerShards {
    /// Opens all shards of `map` on `pools`, in the map's order; checks each shard's identity, or
    /// claims it in an empty database. With `migrate` the schemas are migrated to this version;
    /// otherwise they must have it already.
    pub async fn open(
        map: ShardMap,
        pools: Vec<PgPool>,
        migrate: bool,
    ) -> Result<Self, ShardOpenError> {
        let mut shards = Vec::with_capacity(pools.len());
        for (place, pool) in map.shards().iter().zip(pools) {
            prepare_shard(place, &pool, migrate).await?;
            shards.push(Shard { name: place.name.clone(), range: place.range, pool });
        }
        Ok(Self { map: Arc::new(map), shards: shards.into() })
    }

    /// Opens all shards read-only: checks each shard's schema version and identity (if it has one
    /// yet), and writes nothing.
    pub async fn open_read_only(map: ShardMap, pools: Vec<PgPool>) -> Result<Self, ShardOpenError> {
        let mut shards = Vec::with_capacity(pools.len());
        for (place, pool) in map.shards().iter().zip(pools) {
            prepare_schema(place, &pool, false).await?;
            check_identity(place, &pool).await?;
            shards.push(Shard { name: place.name.clone(), range: place.range, pool });
        }
        Ok(Self { map: Arc::new(map), shards: shards.into() })
    }

    /// Opens one shard read-only if its database has an identity, else `None`.
    pub async fn open_if_present(
        definition: &ShardDefinition,
        pool: PgPool,
    ) -> Result<Option<Shard>, ShardOpenError> {
        let is_present = check_identity(definition, &pool).await?;
        Ok(is_present.then(|| Shard {
            name: definition.name.clone(),
            range: definition.range,
            pool,
        }))
    }

    /// All shards, ordered by range.
    pub fn all(&self) -> &[Shard] {
        &self.shards
    }

    /// Index into [`LedgerShards::all`] of the owner of `hash`.
    pub fn index_of_hash(&self, hash: ShardHash) -> usize {
        self.index_of_prefix(hash.hash_prefix())
    }

    /// Index into [`LedgerShards::all`] of the owner of hashes that begin with `prefix`.
    pub fn index_of_prefix(&self, prefix: u64) -> usize {
        self.map.index_of_prefix(prefix)
    }

    /// The shard that owns `hash`.
    pub fn shard_of_hash(&self, hash: ShardHash) -> &Shard {
        &self.shards[self.index_of_hash(hash)]
    }
}

fn database_error(definition: &ShardDefinition, cause: store::Error) -> ShardOpenError {
    ShardOpenError::Database { shard: definition.name.clone(), cause }
}

async fn prepare_shard(
    definition: &ShardDefinition,
    pool: &PgPool,
    migrate: bool,
) -> Result<(), ShardOpenError> {
    let mut connection = prepare_schema(definition, pool, migrate).await?;
    let stored_identity = claim_identity(definition, &mut connection)
        .await
        .map_err(|cause| database_error(definition, cause))?;
    identity_mismatch(definition, stored_identity).map_or(Ok(()), Err)
}

async fn prepare_schema(
    definition: &ShardDefinition,
    pool: &PgPool,
    migrate: bool,
) -> Result<DedicatedConnection, ShardOpenError> {
    // Migrations have no statement timeout.
    let mut connection = DedicatedConnection::acquire(pool, Duration::ZERO)
        .await
        .map_err(|cause| database_error(definition, cause))?;
    let migrations = MigrationSet::shard();
    let migration_result = match migrate {
        true => migrations.apply_pending(&mut connection).await,
        false => migrations.check_version(&mut connection).await,
    };
    migration_result
        .map_err(|cause| ShardOpenError::Schema { shard: definition.name.clone(), cause })?;
    Ok(connection)
}

/// Whether the database has an identity; an identity of another shard is an error.
async fn check_identity(
    definition: &ShardDefinition,
    pool: &PgPool,
) -> Result<bool, ShardOpenError> {
    let name = "look_at_shard";
    let identity = store::run_statement(pool, name, move |connection| {
        Box::pin(async move {
            let has_table =
                store::statement(name, "SELECT to_regclass('shard_identity') IS NOT NULL");
            if !has_table.fetch_value::<bool>(&mut *connection).await? {
                return Ok(None);
            }
            store::statement(name, "SELECT name, range_first, range_last FROM shard_identity")
                .fetch_optional(connection)
                .await
        })
    });
    match identity.await.map_err(|cause| database_error(definition, cause))? {
        Some(identity) => identity_mismatch(definition, identity).map_or(Ok(true), Err),
        None => Ok(false),
    }
}

/// Error if the stored identity differs from the definition.
fn identity_mismatch(
    definition: &ShardDefinition,
    (found, first, last): (String, String, String),
) -> Option<ShardOpenError> {
    let (range_first, range_last) = format_bounds(definition.range);
    if (found.as_str(), &first, &last) == (definition.name.as_str(), &range_first, &range_last) {
        return None;
    }
    let found_range =
        ShardRange::parse(&first, &last).map(ShardRange::to_hex).unwrap_or([first, last]);
    let (range, found_range) = (Box::new(definition.range.to_hex()), Box::new(found_range));
    Some(ShardOpenError::AnotherShard { shard: definition.name.clone(), range, found, found_range })
}

/// Claims the identity if it is free; returns the stored one.
async fn claim_identity(
    definition: &ShardDefinition,
    connection: &mut PgConnection,
) -> store::Result<(String, String, String)> {
    let (first, last) = format_bounds(definition.range);
    store::statement(
        "identify_shard",
        "INSERT INTO shard_identity (name, range_first, range_last) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    )
    .bind(&definition.name)
    .bind(first)
    .bind(last)
    .execute(&mut *connection)
    .await?;
    store::statement("shard_identity", "SELECT name, range_first, range_last FROM shard_identity")
        .fetch_one(connection)
        .await
}

fn format_bounds(range: ShardRange) -> (String, String) {
    (format!("{:016x}", range.first), format!("{:016x}", range.last))
}
