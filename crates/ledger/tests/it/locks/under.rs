//! Promise: a write under a lock commits before a conflicting grant, and no write happens under an
//! ended lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ledger::locks::{
    LockGrant, LockRefusal, LockRequest, LockStatus, check_lock_in_tx, lock_prefix,
};
use store::PgPool;
use store::testing::run_test;
use uuid::Uuid;

use super::{LONG, caller, line_of, of, shared, two, waiting, wanted};

const SHORT: Duration = Duration::from_millis(300);

async fn hold(pool: &PgPool, lock_id: Uuid) -> LockStatus {
    check_lock_in_tx(&mut pool.acquire().await.unwrap(), lock_id).await.unwrap()
}

#[test]
fn only_a_lock_that_is_alive_can_be_written_under() {
    run_test(async {
        let (shards, a, _b) = two().await;
        let pool = &shards.shard_of_hash(of(7).shard_hash).pool;
        let LockGrant { lock_id, token, expires_at } = a.acquire(wanted()).await.unwrap();
        assert_eq!(hold(pool, lock_id).await, LockStatus::Alive { token, expires_at });
        assert_eq!(lock_prefix(lock_id), of(7).shard_hash.hash_prefix());
        a.release(lock_id).await.unwrap();
        assert_eq!(hold(pool, lock_id).await, LockStatus::Ended);
        assert_eq!(hold(pool, Uuid::new_v4()).await, LockStatus::Unknown);
        let brief =
            a.acquire(LockRequest { ttl: Duration::from_millis(1), ..wanted() }).await.unwrap();
        while a.get_lock(brief.lock_id).await.unwrap().unwrap().alive {}
        assert_eq!(
            hold(pool, brief.lock_id).await,
            LockStatus::Ended,
            "though nobody took it over"
        );
    });
}

#[test]
fn a_write_that_is_under_way_delays_the_next_grant_beyond_the_expiry() {
    run_test(async {
        let (shards, a, b) = two().await;
        let pool = &shards.shard_of_hash(of(7).shard_hash).pool;
        let held = a.acquire(LockRequest { ttl: SHORT, ..wanted() }).await.unwrap();
        let mut tx = pool.begin().await.unwrap();
        assert!(matches!(
            check_lock_in_tx(&mut tx, held.lock_id).await.unwrap(),
            LockStatus::Alive { .. }
        ));
        let next = caller(&b, waiting());
        line_of(&shards, 1).await;
        let over = Instant::now() + SHORT * 3;
        while Instant::now() < over {
            assert!(!next.is_finished(), "granted under an open write");
            assert!(matches!(a.acquire(shared(wanted())).await, Err(LockRefusal::Locked(_))));
        }
        assert!(matches!(a.extend(held.lock_id, LONG).await, Err(LockRefusal::Ended)));
        assert!(!next.is_finished());
        let committed = Instant::now();
        tx.commit().await.unwrap();
        assert!(next.await.unwrap().unwrap().token > held.token);
        assert!(committed.elapsed() < Duration::from_millis(500), "{:?}", committed.elapsed());
    });
}

#[test]
fn a_release_waits_for_writes_and_an_extension_does_not() {
    run_test(async {
        let (shards, a, b) = two().await;
        let pool = &shards.shard_of_hash(of(7).shard_hash).pool;
        let held = a.acquire(wanted()).await.unwrap();
        let mut tx = pool.begin().await.unwrap();
        check_lock_in_tx(&mut tx, held.lock_id).await.unwrap();
        b.extend(held.lock_id, LONG).await.unwrap();
        let releasing = tokio::spawn({
            let (locks, lock_id) = (b.clone(), held.lock_id);
            async move { locks.release(lock_id).await }
        });
        let enough = Instant::now() + SHORT;
        while Instant::now() < enough {
            assert!(matches!(a.acquire(wanted()).await, Err(LockRefusal::Locked(_))));
        }
        assert!(!releasing.is_finished());
        tx.commit().await.unwrap();
        releasing.await.unwrap().unwrap();
        a.acquire(wanted()).await.unwrap();
    });
}

/// Writes under a lock in a transaction that is sometimes slow; returns whether the lock was alive.
async fn write(pool: &PgPool, grant: LockGrant) -> bool {
    store::transaction("write_under_lock", ())
        .run(pool, move |connection, ()| {
            Box::pin(async move {
                let LockStatus::Alive { token, .. } =
                    check_lock_in_tx(connection, grant.lock_id).await?
                else {
                    return Ok(false);
                };
                assert_eq!(token, grant.token);
                let pause = rand::random_range(0.0..0.03);
                sqlx::query("SELECT pg_sleep($1)").bind(pause).execute(&mut *connection).await?;
                // The table refuses the write if a later holder has written.
                sqlx::query("INSERT INTO written SELECT $1, coalesce(max(token), 0) FROM written")
                    .bind(token)
                    .execute(connection)
                    .await?;
                Ok(true)
            })
        })
        .await
        .unwrap()
}

#[test]
fn no_write_ever_carries_an_old_token() {
    run_test(async {
        let (shards, a, b) = two().await;
        let pool = shards.shard_of_hash(of(7).shard_hash).pool.clone();
        sqlx::query("CREATE TABLE written (token bigint, before bigint, CHECK (before <= token))")
            .execute(&pool)
            .await
            .unwrap();
        let (written, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let holders = (0..12).map(|n| {
            let (locks, pool) = ([a.clone(), b.clone()][n % 2].clone(), pool.clone());
            let (written, refused) = (written.clone(), refused.clone());
            tokio::spawn(async move {
                for _ in 0..8 {
                    let brief = LockRequest { ttl: Duration::from_millis(40), ..waiting() };
                    let grant = locks.acquire(brief).await.unwrap();
                    // Sometimes longer than the TTL; then the write succeeds under the row lock or
                    // is refused.
                    for _ in 0..2 {
                        let pause = Duration::from_millis(rand::random_range(0..40));
                        tokio::time::sleep(pause).await;
                        let count = if write(&pool, grant).await { &written } else { &refused };
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                }
            })
        });
        futures::future::try_join_all(holders).await.unwrap();
        println!("{written:?} writes, {refused:?} refused");
        assert!(
            written.load(Ordering::SeqCst) > 20 && refused.load(Ordering::SeqCst) > 20,
            "the fault hardly bit"
        );
    });
}

/// The database's clock is two days ahead of this process's: the SQL shifts it.
#[test]
fn a_lock_ends_by_the_databases_clock() {
    run_test(async {
        let (shards, a, _b) = two().await;
        let pool = &shards.shard_of_hash(of(7).shard_hash).pool;
        let LockGrant { lock_id, .. } = a.acquire(wanted()).await.unwrap();
        sqlx::raw_sql(
            "CREATE SCHEMA ahead;
             CREATE FUNCTION ahead.clock_timestamp() RETURNS timestamptz LANGUAGE sql
             AS 'SELECT pg_catalog.clock_timestamp() + interval ''2 days''';",
        )
        .execute(pool)
        .await
        .unwrap();
        let mut connection = pool.acquire().await.unwrap();
        let ahead = "SET search_path = ahead, pg_catalog, public";
        sqlx::raw_sql(ahead).execute(&mut *connection).await.unwrap();
        assert_eq!(check_lock_in_tx(&mut connection, lock_id).await.unwrap(), LockStatus::Ended);
        connection.close().await.unwrap();
        assert!(matches!(hold(pool, lock_id).await, LockStatus::Alive { .. }));
    });
}
