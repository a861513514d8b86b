//! Locks. Two [`LockService`] on the same shards stand for two processes.

mod api;
mod expiry;
mod gone;
mod line;
mod lost;
mod model;
mod quiet;
mod repeats;
mod under;

use std::time::Duration;

use ledger::LedgerKey;
use ledger::locks::{LockGrant, LockRefusal, LockRequest, LockService};
use ledger::sharding::LedgerShards;

use crate::harness::{by_storage, shards};

pub const LONG: Duration = Duration::from_secs(60);

/// Lock key of a storage.
pub fn of(storage: u32) -> LedgerKey {
    LedgerKey::from_query(
        &by_storage("storage_lock"),
        &[("storage_id".to_owned(), storage.to_string())],
    )
    .unwrap()
}

/// An exclusive lock of storage 7 for a minute, without waiting.
pub fn wanted() -> LockRequest {
    LockRequest {
        target: of(7),
        exclusive: true,
        ttl: LONG,
        wait: Duration::ZERO,
        owner: None,
        request_id: None,
    }
}

pub fn waiting() -> LockRequest {
    LockRequest { wait: LONG, ..wanted() }
}

pub fn shared(wanted: LockRequest) -> LockRequest {
    LockRequest { exclusive: false, ..wanted }
}

/// Two processes on fresh shards.
pub async fn two() -> (LedgerShards, LockService, LockService) {
    let shards = shards().await;
    (shards.clone(), LockService::start(shards.clone()), LockService::start(shards))
}

/// Number of waiters in the queue of storage 7.
pub async fn in_line(shards: &LedgerShards) -> i64 {
    let pool = &shards.shard_of_hash(of(7).shard_hash).pool;
    sqlx::query_scalar("SELECT count(*) FROM locks WHERE state = 'w' AND process IS NOT NULL")
        .fetch_one(pool)
        .await
        .unwrap()
}

/// Waits until the queue of storage 7 has this length.
pub async fn line_of(shards: &LedgerShards, length: i64) {
    while in_line(shards).await != length {
        tokio::task::yield_now().await;
    }
}

/// A task that acquires a lock.
pub fn caller(
    locks: &LockService,
    wanted: LockRequest,
) -> tokio::task::JoinHandle<Result<LockGrant, LockRefusal>> {
    let locks = locks.clone();
    tokio::spawn(async move { locks.acquire(wanted).await })
}
