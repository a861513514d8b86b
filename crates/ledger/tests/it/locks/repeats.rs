//! Hazard: an answer is lost. A repeated request with the same `request_id` gets the same grant, or
//! keeps its place in the queue.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use ledger::FencingToken;
use ledger::locks::{LockRefusal, LockRequest, LockService};
use store::testing::run_test;

use super::{LONG, caller, line_of, of, two, waiting, wanted};

fn named(wanted: LockRequest, request_id: &str) -> LockRequest {
    LockRequest { request_id: Some(request_id.to_owned()), ..wanted }
}

#[test]
fn the_same_request_gets_the_same_grant() {
    run_test(async {
        let (_shards, a, b) = two().await;
        let grant = a.acquire(named(wanted(), "r")).await.unwrap();
        for locks in [&a, &b] {
            assert_eq!(locks.acquire(named(wanted(), "r")).await.unwrap(), grant);
            assert_eq!(locks.acquire(named(waiting(), "r")).await.unwrap(), grant);
        }
        let other = LockRequest { ttl: LONG * 2, ..wanted() };
        assert!(matches!(b.acquire(named(other, "r")).await, Err(LockRefusal::OtherRequest)));
        assert!(matches!(b.acquire(named(wanted(), "other")).await, Err(LockRefusal::Locked(_))));
        // Under another key it is another request.
        assert_ne!(
            b.acquire(named(LockRequest { target: of(8), ..wanted() }, "r")).await.unwrap().lock_id,
            grant.lock_id
        );
        let extended = a.extend(grant.lock_id, LONG * 3).await.unwrap();
        assert_eq!(b.acquire(named(wanted(), "r")).await.unwrap(), extended);
        a.release(grant.lock_id).await.unwrap();
        assert!(matches!(b.acquire(named(waiting(), "r")).await, Err(LockRefusal::Ended)));
        assert!(b.acquire(named(wanted(), "other")).await.unwrap().token > grant.token);
    });
}

#[test]
fn requests_of_one_name_wait_together() {
    run_test(async {
        let (shards, a, b) = two().await;
        let held = a.acquire(wanted()).await.unwrap();
        let together: Vec<_> = (0..8)
            .map(|n| caller(if n % 2 == 0 { &a } else { &b }, named(waiting(), "r")))
            .collect();
        line_of(&shards, 1).await;
        // One of them gives up; the others keep waiting.
        assert!(matches!(b.acquire(named(wanted(), "r")).await, Err(LockRefusal::Locked(_))));
        together[0].abort();
        let other = caller(&b, waiting());
        line_of(&shards, 2).await;
        a.release(held.lock_id).await.unwrap();
        let mut grants = BTreeSet::new();
        for caller in together.into_iter().skip(1) {
            let grant = caller.await.unwrap().unwrap();
            grants.insert((grant.lock_id, grant.token));
        }
        assert_eq!(grants.len(), 1);
        let (lock_id, _) = grants.pop_first().unwrap();
        assert!(!other.is_finished());
        a.release(lock_id).await.unwrap();
        other.await.unwrap().unwrap();
    });
}

#[test]
fn who_gives_up_leaves_the_place_to_others_of_the_same_name() {
    run_test(async {
        let (shards, a, b) = two().await;
        let held = a.acquire(wanted()).await.unwrap();
        let patient = caller(&a, named(waiting(), "r"));
        line_of(&shards, 1).await;
        let brief = LockRequest { wait: Duration::from_millis(200), ..wanted() };
        let brief = caller(&a, named(brief, "r"));
        let behind = caller(&b, waiting());
        line_of(&shards, 2).await;
        assert!(matches!(brief.await.unwrap(), Err(LockRefusal::Locked(_))));
        line_of(&shards, 2).await;
        a.release(held.lock_id).await.unwrap();
        let grant = patient.await.unwrap().unwrap();
        assert!(!behind.is_finished());
        a.release(grant.lock_id).await.unwrap();
        behind.await.unwrap().unwrap();
    });
}

#[test]
fn who_comes_back_goes_on_where_it_waited() {
    run_test(async {
        let (shards, a, b) = two().await;
        let held = a.acquire(wanted()).await.unwrap();
        let first = caller(&a, named(waiting(), "r"));
        line_of(&shards, 1).await;
        let second = caller(&b, waiting());
        line_of(&shards, 2).await;
        let third = caller(&a, named(waiting(), "s"));
        line_of(&shards, 3).await;
        first.abort();
        third.abort();
        line_of(&shards, 1).await;
        // To another process.
        let first = caller(&b, named(waiting(), "r"));
        line_of(&shards, 2).await;
        a.release(held.lock_id).await.unwrap();
        let grant = first.await.unwrap().unwrap();
        assert!(!second.is_finished());
        // A caller that does not return does not block the others.
        b.release(grant.lock_id).await.unwrap();
        let grant = second.await.unwrap().unwrap();
        b.release(grant.lock_id).await.unwrap();
        let grant = a.acquire(named(wanted(), "s")).await.unwrap();
        assert_eq!(a.get_lock(grant.lock_id).await.unwrap().unwrap().token, grant.token);
    });
}

/// Minimum number of injected faults.
const CUTS: i64 = 20;

/// Terminates connections of storage 7's shard until `stop`, and counts them.
async fn cut(shards: &ledger::sharding::LedgerShards, stop: &AtomicBool, cuts: &AtomicI64) {
    let options = (*shards.shard_of_hash(of(7).shard_hash).pool.connect_options()).clone();
    let name = options.get_database().unwrap().to_owned();
    let cutter = store::testing::open_test_pool(options.database("postgres")).await;
    while !stop.load(Ordering::SeqCst) {
        let cut = sqlx::query_scalar::<_, i64>(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE datname = $1 AND (state = 'active' OR random() < 0.05) AND random() < 0.5",
        )
        .bind(&name)
        .fetch_one(&cutter)
        .await
        .unwrap();
        cuts.fetch_add(cut, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// One caller that repeats each request until the outcome is known, at least ten times; returns the
/// tokens of its locks.
async fn insist(
    locks: [LockService; 2],
    caller: usize,
    (inside, doubts, cuts): (Arc<AtomicI64>, Arc<AtomicUsize>, Arc<AtomicI64>),
) -> Vec<FencingToken> {
    let mut tokens = Vec::new();
    while tokens.len() < 10 || cuts.load(Ordering::SeqCst) < CUTS {
        let turn = tokens.len();
        let request =
            named(LockRequest { target: of(7), ..waiting() }, &format!("{caller} {turn}"));
        let grant = loop {
            match locks[rand::random_range(0..2)].acquire(request.clone()).await {
                Ok(grant) => break grant,
                Err(LockRefusal::Database(_)) => doubts.fetch_add(1, Ordering::SeqCst),
                Err(other) => panic!("{other:?}"),
            };
        };
        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two holders");
        tokio::task::yield_now().await;
        inside.fetch_sub(1, Ordering::SeqCst);
        tokens.push(grant.token);
        loop {
            match locks[rand::random_range(0..2)].release(grant.lock_id).await {
                Ok(()) | Err(LockRefusal::Ended) => break,
                Err(LockRefusal::Database(_)) => doubts.fetch_add(1, Ordering::SeqCst),
                Err(other) => panic!("{other:?}"),
            };
        }
    }
    tokens
}

#[test]
fn whatever_connections_are_cut_each_request_gets_one_grant() {
    run_test(async {
        let (shards, a, b) = two().await;
        let (stop, inside, doubts) =
            (Arc::new(AtomicBool::new(false)), Arc::default(), Arc::default());
        let cuts = Arc::new(AtomicI64::new(0));
        let cutting = tokio::spawn({
            let (shards, stop, cuts) = (shards.clone(), stop.clone(), cuts.clone());
            async move { cut(&shards, &stop, &cuts).await }
        });
        let callers = (0..12).map(|n| {
            let of_all = (Arc::clone(&inside), Arc::clone(&doubts), cuts.clone());
            tokio::spawn(insist([a.clone(), b.clone()], n, of_all))
        });
        let mut tokens: Vec<FencingToken> =
            futures::future::try_join_all(callers).await.unwrap().into_iter().flatten().collect();
        stop.store(true, Ordering::SeqCst);
        cutting.await.unwrap();
        let holds = tokens.len();
        println!("{holds} holds, {cuts:?} connections cut, {doubts:?} answers in doubt");
        tokens.sort_unstable();
        tokens.dedup();
        assert_eq!(tokens.len(), holds);
        // No lock is held, and the queue is empty.
        let last =
            a.acquire(LockRequest { wait: Duration::from_secs(5), ..wanted() }).await.unwrap();
        a.release(last.lock_id).await.unwrap();
    });
}
