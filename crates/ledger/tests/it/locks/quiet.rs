//! Promise: waiting costs next to nothing, and a grant wakes whom it is for and nobody else.

use std::collections::BTreeMap;
use std::time::Duration;

use ledger::locks::Locks;
use ledger::sharding::{ShardMap, Shards};
use sqlx::{AssertSqlSafe, PgConnection};
use store::testing::{pool, run, shard_database};

use super::{caller, line_of, of, waiting, wanted};

/// A process whose calls are counted, and a connection of somebody else.
async fn counted() -> (Shards, Locks, PgConnection) {
    let mut pools = Vec::new();
    for _ in 0..4 {
        let options = (*shard_database().await.connect_options()).clone();
        let mut admin = pool(options.clone()).await.acquire().await.unwrap();
        let counting =
            format!("ALTER DATABASE {} SET track_functions = 'pl'", options.get_database().unwrap());
        sqlx::query(AssertSqlSafe(counting)).execute(&mut *admin).await.unwrap();
        pools.push(pool(options).await);
    }
    let shards = Shards::open(ShardMap::four(), pools, false).await.unwrap();
    let own = pool((*shards.of(of(7).hash).pool.connect_options()).clone()).await;
    (shards.clone(), Locks::start(shards), own.acquire().await.unwrap().detach())
}

/// Ends the process's connections, which report what they did when they end, and counts calls of functions.
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
    run(async {
        let (shards, locks, mut observer) = counted().await;
        let held = locks.acquire(wanted()).await.unwrap();
        let callers: Vec<_> = (0..200).map(|_| caller(&locks, waiting())).collect();
        line_of(&shards, 200).await;
        locks.release(held.lock_id).await.unwrap();
        while !callers.iter().any(|caller| caller.is_finished()) {
            tokio::task::yield_now().await;
        }
        let mut calls = calls(&mut observer).await;
        let beats = calls.remove("keep_waiting").unwrap_or(0);
        assert!(beats <= 5, "{beats} looks within a moment");
        // One for each caller, and some for those who asked when the listening began.
        let taken = calls.remove("take_lock").unwrap_or(0);
        assert!((201..220).contains(&taken), "{taken} calls for 201 callers");
        assert_eq!(calls.into_iter().collect::<Vec<_>>(), [("release_lock".to_owned(), 1)]);
        assert_eq!(callers.iter().filter(|caller| caller.is_finished()).count(), 1);
    });
}

#[test]
fn while_nobody_waits_nothing_is_asked() {
    run(async {
        let (_shards, locks, mut observer) = counted().await;
        locks.acquire(wanted()).await.unwrap();
        // What is to show is that nothing happens.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let mut calls = calls(&mut observer).await;
        // Only if its listening had just begun.
        assert!(calls.remove("keep_waiting").unwrap_or(0) <= 1);
        assert_eq!(calls.into_iter().collect::<Vec<_>>(), [("take_lock".to_owned(), 1)]);
    });
}
