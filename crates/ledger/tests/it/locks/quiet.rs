//! Promise: waiting is nearly free, and a grant wakes only its receiver.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ledger::locks::LockService;
use ledger::sharding::LedgerShards;
use sqlx::{AssertSqlSafe, PgConnection};
use store::testing::{create_shard_database, open_test_pool, run_test};

use super::{caller, line_of, of, waiting, wanted};
use crate::harness::four_shards;

/// A process whose function calls are counted, and a connection of an observer.
async fn counted() -> (LedgerShards, LockService, PgConnection) {
    let mut pools = Vec::new();
    for _ in 0..4 {
        let options = (*create_shard_database().await.connect_options()).clone();
        let mut admin = open_test_pool(options.clone()).await.acquire().await.unwrap();
        let counting = format!(
            "ALTER DATABASE {} SET track_functions = 'pl'",
            options.get_database().unwrap()
        );
        sqlx::query(AssertSqlSafe(counting)).execute(&mut *admin).await.unwrap();
        pools.push(open_test_pool(options).await);
    }
    let shards = LedgerShards::open(four_shards(), pools, false).await.unwrap();
    let own =
        open_test_pool((*shards.shard_of_hash(of(7).shard_hash).pool.connect_options()).clone())
            .await;
    (shards.clone(), LockService::start(shards), own.acquire().await.unwrap().detach())
}

/// Terminates the process's connections (backends flush statistics on exit) and counts calls.
async fn calls(observer: &mut PgConnection) -> BTreeMap<String, i64> {
    sqlx::query(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .execute(&mut *observer)
    .await
    .unwrap();
    let counted = sqlx::query_as(
        "SELECT funcname, calls FROM pg_stat_user_functions WHERE calls > 0
         AND funcname IN ('take_lock', 'release_lock', 'hand_over_lock', 'keep_waiting', 'leave_lock')",
    );
    counted.fetch_all(observer).await.unwrap().into_iter().collect()
}

#[test]
fn nobody_is_woken_in_vain() {
    run_test(async {
        let (shards, locks, mut observer) = counted().await;
        let started = Instant::now();
        let held = locks.acquire(wanted()).await.unwrap();
        let callers: Vec<_> = (0..200).map(|_| caller(&locks, waiting())).collect();
        line_of(&shards, 200).await;
        locks.release(held.lock_id).await.unwrap();
        while !callers.iter().any(|caller| caller.is_finished()) {
            tokio::task::yield_now().await;
        }
        let mut calls = calls(&mut observer).await;
        let beats = calls.remove("keep_waiting").unwrap_or(0);
        // One per second, and one when the listener started.
        assert!(
            beats <= 2 + started.elapsed().as_secs() as i64,
            "{beats} looks in {:?}",
            started.elapsed()
        );
        let once = [("release_lock".to_owned(), 1), ("take_lock".to_owned(), 201)];
        assert_eq!(calls.into_iter().collect::<Vec<_>>(), once);
        assert_eq!(callers.iter().filter(|caller| caller.is_finished()).count(), 1);
    });
}

#[test]
fn while_nobody_waits_nothing_is_asked() {
    run_test(async {
        let (_shards, locks, mut observer) = counted().await;
        locks.acquire(wanted()).await.unwrap();
        // Wait to show that nothing happens.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let calls = calls(&mut observer).await;
        assert_eq!(calls.into_iter().collect::<Vec<_>>(), [("take_lock".to_owned(), 1)]);
    });
}
