//! Hazard: callers and processes disappear while they wait, or at the moment of a grant. They must
//! not block the queue, nor hold a lock whose grant they did not receive.

use std::time::{Duration, Instant};

use ledger::locks::{LockRefusal, LockRequest, LockService};
use ledger::sharding::LedgerShards;
use store::testing::{open_test_pool, run_test};

use super::{LONG, caller, in_line, line_of, two, waiting, wanted};
use crate::harness::four_shards;

/// A process that can be killed: a separate runtime with separate connections.
struct Mortal(Option<tokio::runtime::Runtime>);

impl Mortal {
    /// A process with this many callers waiting for the lock.
    async fn waiting(shards: &LedgerShards, callers: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let options: Vec<_> =
            shards.all().iter().map(|shard| (*shard.pool.connect_options()).clone()).collect();
        let before = in_line(shards).await;
        runtime.spawn(async move {
            let mut pools = Vec::new();
            for options in options {
                pools.push(open_test_pool(options).await);
            }
            let shards = LedgerShards::open(four_shards(), pools, false).await.unwrap();
            let locks = LockService::start(shards);
            futures::future::join_all((0..callers).map(|_| locks.acquire(waiting()))).await;
        });
        line_of(shards, before + callers as i64).await;
        Self(Some(runtime))
    }

    fn kill(mut self) {
        self.0.take().unwrap().shutdown_background();
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[test]
fn a_dead_process_neither_blocks_the_line_nor_holds_what_it_was_granted() {
    run_test(async {
        let (shards, a, b) = two().await;
        let held = a.acquire(wanted()).await.unwrap();
        let mortal = Mortal::waiting(&shards, 20).await;
        let next = caller(&b, waiting());
        line_of(&shards, 21).await;
        let killed = Instant::now();
        mortal.kill();
        // Granted to the dead process first, which is still considered alive.
        a.release(held.lock_id).await.unwrap();
        let grant = next.await.unwrap().unwrap();
        println!("past 20 callers of a dead process after {:?}", killed.elapsed());
        assert!(killed.elapsed() < Duration::from_secs(8));
        assert!(
            grant.token.get() > held.token.get() + 1,
            "nothing was granted to the dead: the fault never bit"
        );
        b.release(grant.lock_id).await.unwrap();
        // Once the process is considered dead, its places are skipped.
        let started = Instant::now();
        let grant = a.acquire(wanted()).await.unwrap();
        a.release(grant.lock_id).await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(1));
    });
}

#[test]
fn the_line_goes_on_by_itself_when_the_process_at_its_head_dies() {
    run_test(async {
        let (shards, a, b) = two().await;
        let shared = LockRequest { exclusive: false, ..wanted() };
        a.acquire(shared.clone()).await.unwrap();
        // An exclusive waiter that is dead now, and behind it a shared one.
        Mortal::waiting(&shards, 1).await.kill();
        let next = caller(&b, LockRequest { wait: LONG, ..shared });
        let waited = Instant::now();
        next.await.unwrap().unwrap();
        assert!(waited.elapsed() < Duration::from_secs(7), "{:?}", waited.elapsed());
    });
}

#[test]
fn a_caller_that_goes_away_leaves_the_line() {
    run_test(async {
        let (shards, a, b) = two().await;
        let held = a.acquire(wanted()).await.unwrap();
        let first = caller(&b, waiting());
        line_of(&shards, 1).await;
        let second = caller(&a, waiting());
        line_of(&shards, 2).await;
        first.abort();
        line_of(&shards, 1).await;
        a.release(held.lock_id).await.unwrap();
        second.await.unwrap().unwrap();
    });
}

#[test]
fn whoever_waits_in_vain_is_told_who_holds_it_and_leaves_the_line() {
    run_test(async {
        let (shards, a, b) = two().await;
        let held =
            a.acquire(LockRequest { owner: Some("me".to_owned()), ..wanted() }).await.unwrap();
        let started = Instant::now();
        let wait = Duration::from_millis(200);
        let Err(LockRefusal::Locked(Some(holder))) =
            b.acquire(LockRequest { wait, ..wanted() }).await
        else {
            panic!()
        };
        assert!(started.elapsed() >= wait && started.elapsed() < wait + Duration::from_secs(1));
        assert_eq!(holder.owner.as_deref(), Some("me"));
        assert_eq!((holder.exclusive, holder.expires_at), (true, held.expires_at));
        assert_eq!(in_line(&shards).await, 0);
    });
}

#[test]
fn a_caller_that_goes_away_at_the_moment_of_the_grant_does_not_keep_it() {
    run_test(async {
        let (shards, a, b) = two().await;
        let (mut heard, mut gone) = (0, 0);
        for turn in 0..200_u64 {
            let (holder, other) = if turn % 2 == 0 { (&a, &b) } else { (&a, &a) };
            let held = holder.acquire(waiting()).await.unwrap();
            let next = caller(other, waiting());
            line_of(&shards, 1).await;
            let release = tokio::spawn({
                let holder = holder.clone();
                async move { holder.release(held.lock_id).await }
            });
            tokio::time::sleep(Duration::from_micros(rand::random_range(0..3000))).await;
            next.abort();
            match next.await {
                Ok(grant) => {
                    other.release(grant.unwrap().lock_id).await.unwrap();
                    heard += 1;
                }
                Err(_) => gone += 1,
            }
            release.await.unwrap().unwrap();
        }
        // Also without queueing.
        for _ in 0..100 {
            let taken = caller(&a, waiting());
            tokio::time::sleep(Duration::from_micros(rand::random_range(0..2000))).await;
            taken.abort();
            if let Ok(grant) = taken.await {
                a.release(grant.unwrap().lock_id).await.unwrap();
            }
        }
        println!("{heard} heard of their grant, {gone} went away");
        assert!(heard > 4 && gone > 4, "{heard} heard, {gone} gone: the fault hardly bit");
        // Nothing is held for the minute that a lost grant would last.
        let last =
            b.acquire(LockRequest { wait: Duration::from_secs(10), ..wanted() }).await.unwrap();
        b.release(last.lock_id).await.unwrap();
        let pool = &shards.shard_of_hash(super::of(7).shard_hash).pool;
        let nothing_is_left = async {
            let left = "SELECT count(*) FROM locks WHERE state <> 'e'";
            // The last give-back may still be in progress.
            while sqlx::query_scalar::<_, i64>(left).fetch_one(pool).await.unwrap() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), nothing_is_left).await.unwrap();
    });
}

#[test]
fn a_process_that_stops_lets_its_callers_go() {
    run_test(async {
        let (shards, a, b) = two().await;
        let held = a.acquire(wanted()).await.unwrap();
        let named = LockRequest { request_id: Some("r".to_owned()), ..waiting() };
        let waits = caller(&b, named.clone());
        line_of(&shards, 1).await;
        b.stop();
        assert!(matches!(waits.await.unwrap(), Err(LockRefusal::Stopping)));
        line_of(&shards, 0).await;
        // It continues in another process.
        let waits = caller(&a, named);
        line_of(&shards, 1).await;
        a.release(held.lock_id).await.unwrap();
        waits.await.unwrap().unwrap();
    });
}
