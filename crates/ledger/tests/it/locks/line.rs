//! Promise: FIFO among all processes, and no holder beside that of an exclusive lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use ledger::FencingToken;
use ledger::locks::{LockRefusal, LockRequest, LockService};
use store::testing::run_test;

use super::{caller, line_of, of, shared, two, waiting, wanted};

/// Current holders: -1 for an exclusive one, else the number of shared ones.
#[derive(Clone, Default)]
struct Holders(Arc<AtomicI64>);

impl Holders {
    fn enter(&self, exclusive: bool) {
        let before = if exclusive {
            self.0.fetch_sub(1, Ordering::SeqCst)
        } else {
            self.0.fetch_add(1, Ordering::SeqCst)
        };
        assert!(if exclusive { before == 0 } else { before >= 0 }, "two holders");
    }

    fn leave(&self, exclusive: bool) {
        self.0.fetch_add(if exclusive { 1 } else { -1 }, Ordering::SeqCst);
    }
}

/// 200 callers of one lock in two processes, each holding it briefly; tokens in grant order.
async fn crowd(
    locks: [&LockService; 2],
    exclusive: fn(usize) -> bool,
) -> (Vec<FencingToken>, Duration) {
    let holders = Holders::default();
    let started = Instant::now();
    let callers = (0..200).map(|n| {
        let (locks, holders) = (locks[n % 2].clone(), holders.clone());
        tokio::spawn(async move {
            let exclusive = exclusive(n);
            let grant = locks.acquire(LockRequest { exclusive, ..waiting() }).await.unwrap();
            holders.enter(exclusive);
            tokio::task::yield_now().await;
            holders.leave(exclusive);
            locks.release(grant.lock_id).await.unwrap();
            grant.token
        })
    });
    let tokens = futures::future::try_join_all(callers).await.unwrap();
    (tokens, started.elapsed())
}

#[test]
fn two_hundred_at_one_exclusive_lock() {
    run_test(async {
        let (_shards, a, b) = two().await;
        let (mut tokens, took) = crowd([&a, &b], |_| true).await;
        tokens.sort_unstable();
        tokens.dedup();
        assert_eq!(tokens.len(), 200);
        println!("200 exclusive grants to two processes: {:.0}/s", 200.0 / took.as_secs_f64());
        let (_, took) = crowd([&a, &a], |_| true).await;
        println!("200 exclusive grants to one process: {:.0}/s", 200.0 / took.as_secs_f64());
    });
}

#[test]
fn free_locks() {
    run_test(async {
        let (_shards, a, _b) = two().await;
        let started = Instant::now();
        for _ in 0..200 {
            let grant = a.acquire(wanted()).await.unwrap();
            assert!(matches!(a.acquire(wanted()).await, Err(LockRefusal::Locked(Some(_)))));
            a.release(grant.lock_id).await.unwrap();
        }
        println!("one after another: {:.0}/s", 200.0 / started.elapsed().as_secs_f64());
        let started = Instant::now();
        let callers = (0..1000_u32).map(|n| {
            let a = a.clone();
            tokio::spawn(async move {
                a.acquire(LockRequest { target: of(n), ..wanted() }).await.unwrap()
            })
        });
        futures::future::try_join_all(callers).await.unwrap();
        println!("1000 free locks at once: {:.0}/s", 1000.0 / started.elapsed().as_secs_f64());
    });
}

#[test]
fn grants_come_in_the_order_of_arrival() {
    run_test(async {
        let (shards, a, b) = two().await;
        let held = a.acquire(wanted()).await.unwrap();
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut callers = Vec::new();
        for n in 0..40_usize {
            let (locks, order) = (if n % 3 == 0 { a.clone() } else { b.clone() }, order.clone());
            callers.push(tokio::spawn(async move {
                let grant = locks
                    .acquire(LockRequest { exclusive: n % 4 != 0, ..waiting() })
                    .await
                    .unwrap();
                order.lock().unwrap().push((n, grant.token));
                locks.release(grant.lock_id).await.unwrap();
            }));
            line_of(&shards, n as i64 + 1).await;
        }
        a.release(held.lock_id).await.unwrap();
        futures::future::try_join_all(callers).await.unwrap();
        let order = order.lock().unwrap().clone();
        assert!(order.is_sorted(), "{order:?}");
        assert!(order.is_sorted_by_key(|(_, token)| *token), "{order:?}");
    });
}

#[test]
fn a_waiting_exclusive_one_holds_back_later_shared_ones() {
    run_test(async {
        let (shards, a, b) = two().await;
        let sharing = a.acquire(shared(wanted())).await.unwrap();
        let also = b.acquire(shared(wanted())).await.unwrap();
        assert!(matches!(a.acquire(wanted()).await, Err(LockRefusal::Locked(_))));
        let alone = caller(&b, waiting());
        line_of(&shards, 1).await;
        assert!(matches!(a.acquire(shared(wanted())).await, Err(LockRefusal::Locked(_))));
        let later = [caller(&a, shared(waiting())), caller(&b, shared(waiting()))];
        line_of(&shards, 3).await;
        a.release(sharing.lock_id).await.unwrap();
        assert!(!alone.is_finished());
        b.release(also.lock_id).await.unwrap();
        let alone = alone.await.unwrap().unwrap();
        assert!(later.iter().all(|later| !later.is_finished()));
        b.release(alone.lock_id).await.unwrap();
        for later in later {
            assert!(later.await.unwrap().unwrap().token > alone.token);
        }
    });
}
