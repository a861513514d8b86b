//! State store: one JSON document per type and key attributes, with a version that grows by one per
//! write.
//!
//! - Shape: table `states`, one row per key.
//! - Cost: one round trip and one row lock per put.
//! - Lock order: several puts in one transaction lock their rows in key order.
//! - Promise: optimistic concurrency; of the puts that expect the same version, one wins. Repeating
//!   the put that made the current version is idempotent.

mod put;

use serving::error::{ApiError, ErrorCode};
use sqlx::PgPool;
use store::Result;

pub use put::{StateWrite, StateWriteOutcome, put_states_in_tx};
pub(crate) use put::{fingerprint_state, read_written_versions};

use crate::attributes::LedgerKey;
use crate::sharding::LedgerShards;

/// A state document and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionedState {
    /// The JSON text, as written.
    pub state: String,
    /// Version number, counted from 1.
    pub version: i64,
}

/// Reads and writes states; clones share the shards.
#[derive(Debug, Clone)]
pub struct StateStore {
    shards: LedgerShards,
}

impl StateStore {
    /// State store on these shards.
    pub fn new(shards: LedgerShards) -> Self {
        Self { shards }
    }

    /// Current state, or `None`.
    pub async fn get(&self, target: &LedgerKey) -> Result<Option<VersionedState>> {
        let found: Option<(String, i64)> =
            store::statement("get_state", "SELECT state, version FROM states WHERE key = $1")
                .bind(target.key_hash)
                .fetch_optional(self.pool(target))
                .await?;
        Ok(found.map(|(state, version)| VersionedState { state, version }))
    }

    /// Writes one state in one statement.
    pub async fn put(&self, put: StateWrite) -> Result<StateWriteOutcome> {
        let pool = self.pool(&put.target).clone();
        let put: std::sync::Arc<[StateWrite]> = [put].into();
        let is_stale = StateWriteOutcome::is_stale;
        store::run_refusable_statement(&pool, "put_states", is_stale, move |connection| {
            let put = put.clone();
            Box::pin(async move {
                let outcome = put_states_in_tx(connection, &put).await?.pop();
                Ok(outcome.unwrap_or(StateWriteOutcome::Stale { version: 0 }))
            })
        })
        .await
    }

    fn pool(&self, target: &LedgerKey) -> &PgPool {
        &self.shards.shard_of_hash(target.shard_hash).pool
    }
}

/// Error for a stale put; `version` is the current one, 0 if the state does not exist.
pub(crate) fn stale_state_error(version: i64) -> ApiError {
    let message = match version {
        0 => "there is no such state, so no version of it".to_owned(),
        _ => format!("the state is at version {version}"),
    };
    ApiError::new(ErrorCode::Stale, message).with_arg("version", version)
}
