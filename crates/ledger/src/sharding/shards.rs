//! The shards' databases, each checked to be the one that the map says.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use store::{Dedicated, MigrationError, Migrations};

use super::{Range, ShardHash, ShardMap, ShardPlace};

/// One shard.
#[derive(Debug, Clone)]
pub struct Shard {
    /// Its name.
    pub name: String,
    /// The hashes it owns.
    pub range: Range,
    /// Its database.
    pub pool: PgPool,
}

/// All shards; clones share them.
#[derive(Debug, Clone)]
pub struct Shards {
    map: Arc<ShardMap>,
    shards: Arc<[Shard]>,
}

/// Why a shard's database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its schema does not fit.
    #[error("shard {shard}: {cause}")]
    Schema {
        /// Which.
        shard: String,
        /// Why.
        cause: MigrationError,
    },
    /// It is another shard's.
    #[error(
        "shard {shard} with the range {range:?}: the database carries shard {found} with the range {found_range:?}; \
         the shard map is wrong"
    )]
    AnotherShard {
        /// The shard of the map.
        shard: String,
        /// Its range in the map. Boxed, as the next: errors that are returned by value are small.
        range: Box<[String; 2]>,
        /// The shard of the database.
        found: String,
        /// Its range in the database.
        found_range: Box<[String; 2]>,
    },
    /// It does not answer.
    #[error("shard {shard}: {cause}")]
    Database {
        /// Which.
        shard: String,
        /// Why.
        cause: store::Error,
    },
}

impl Shards {
    /// Shards of `map` whose pools are open, in the map's order; checks (or, in an empty database, writes) each one's
    /// identity. `migrate`: bring the schemas to this version; otherwise they must be there.
    pub async fn open(map: ShardMap, pools: Vec<PgPool>, migrate: bool) -> Result<Self, OpenError> {
        let mut shards = Vec::with_capacity(pools.len());
        for (place, pool) in map.shards().iter().zip(pools) {
            prepare(place, &pool, migrate).await?;
            shards.push(Shard { name: place.name.clone(), range: place.range, pool });
        }
        Ok(Self { map: Arc::new(map), shards: shards.into() })
    }

    /// Shards of `map` whose pools are open, for somebody who only looks: each one's schema and identity (if it has one yet)
    /// are checked, and nothing is written.
    pub async fn open_existing(map: ShardMap, pools: Vec<PgPool>) -> Result<Self, OpenError> {
        let mut shards = Vec::with_capacity(pools.len());
        for (place, pool) in map.shards().iter().zip(pools) {
            prepare_schema(place, &pool, false).await?;
            look(place, &pool).await?;
            shards.push(Shard { name: place.name.clone(), range: place.range, pool });
        }
        Ok(Self { map: Arc::new(map), shards: shards.into() })
    }

    /// The shard of one place of a map whose pool is open, if it has anything in it; writes nothing.
    pub async fn look_at(place: &ShardPlace, pool: PgPool) -> Result<Option<Shard>, OpenError> {
        let there = look(place, &pool).await?;
        Ok(there.then(|| Shard { name: place.name.clone(), range: place.range, pool }))
    }

    /// All, by range.
    pub fn all(&self) -> &[Shard] {
        &self.shards
    }

    /// The place in [`Shards::all`] of the shard that owns `hash`.
    pub fn owner(&self, hash: ShardHash) -> usize {
        self.owner_of(hash.prefix())
    }

    /// The place in [`Shards::all`] of the shard that owns hashes that begin with `prefix`.
    pub fn owner_of(&self, prefix: u64) -> usize {
        self.map.owner(prefix)
    }

    /// The shard that owns `hash`.
    pub fn of(&self, hash: ShardHash) -> &Shard {
        &self.shards[self.owner(hash)]
    }
}

async fn prepare(place: &ShardPlace, pool: &PgPool, migrate: bool) -> Result<(), OpenError> {
    let database = |cause: store::Error| OpenError::Database { shard: place.name.clone(), cause };
    let mut connection = prepare_schema(place, pool, migrate).await?;
    let identity = identity(place, &mut connection).await.map_err(database)?;
    another(place, identity).map_or(Ok(()), Err)
}

async fn prepare_schema(place: &ShardPlace, pool: &PgPool, migrate: bool) -> Result<Dedicated, OpenError> {
    let database = |cause: store::Error| OpenError::Database { shard: place.name.clone(), cause };
    // Migrations may take as long as they take.
    let mut connection = Dedicated::take(pool, Duration::ZERO).await.map_err(database)?;
    let migrations = Migrations::shard();
    let fits = match migrate {
        true => migrations.apply(&mut connection).await,
        false => migrations.check(&mut connection).await,
    };
    fits.map_err(|cause| OpenError::Schema { shard: place.name.clone(), cause })?;
    Ok(connection)
}

/// Whether a database has an identity; it must be the place's.
async fn look(place: &ShardPlace, pool: &PgPool) -> Result<bool, OpenError> {
    let database = |cause: store::Error| OpenError::Database { shard: place.name.clone(), cause };
    let identity = store::run(pool, "look_at_shard", |connection| {
        Box::pin(async move {
            let there =
                sqlx::query_scalar("SELECT to_regclass('shard_identity') IS NOT NULL -- look_at_shard");
            if !there.fetch_one(&mut *connection).await? {
                return Ok(None);
            }
            let found =
                sqlx::query_as("SELECT name, range_first, range_last FROM shard_identity -- look_at_shard");
            Ok(found.fetch_optional(connection).await?)
        })
    });
    match identity.await.map_err(database)? {
        Some(identity) => another(place, identity).map_or(Ok(true), Err),
        None => Ok(false),
    }
}

/// What is wrong if the identity is not the place's.
fn another(place: &ShardPlace, (found, first, last): (String, String, String)) -> Option<OpenError> {
    let (range_first, range_last) = bounds(place.range);
    if (found.as_str(), &first, &last) == (place.name.as_str(), &range_first, &range_last) {
        return None;
    }
    let found_range = Range::parse(&first, &last).map(Range::hex).unwrap_or([first, last]);
    let (range, found_range) = (Box::new(place.range.hex()), Box::new(found_range));
    Some(OpenError::AnotherShard { shard: place.name.clone(), range, found, found_range })
}

/// The identity that the database carries from now on.
async fn identity(
    place: &ShardPlace,
    connection: &mut PgConnection,
) -> store::Result<(String, String, String)> {
    let (first, last) = bounds(place.range);
    sqlx::query(
        "INSERT INTO shard_identity (name, range_first, range_last) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING -- identify_shard",
    )
    .bind(&place.name)
    .bind(first)
    .bind(last)
    .execute(&mut *connection)
    .await?;
    let found = sqlx::query_as("SELECT name, range_first, range_last FROM shard_identity -- shard_identity");
    Ok(found.fetch_one(connection).await?)
}

fn bounds(range: Range) -> (String, String) {
    (format!("{:016x}", range.first), format!("{:016x}", range.last))
}
