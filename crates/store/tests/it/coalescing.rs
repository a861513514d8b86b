//! Hazard: concurrent writers that share commits get another writer's answer, or one poisoned
//! batch stops the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use store::testing::{run_counting_panics, run_test};
use store::{BatchOptions, Coalescer};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

type Item = (u32, oneshot::Sender<u32>);

#[test]
fn what_comes_in_during_a_write_shares_the_next_one() {
    run_test(async {
        let (writes, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let (counted, opened) = (writes.clone(), gate.clone());
        let coalescer = Coalescer::spawn("doubling", 1000, 1000, move |batch: Vec<Item>| {
            let (writes, gate) = (counted.clone(), opened.clone());
            async move {
                writes.fetch_add(1, Ordering::SeqCst);
                gate.acquire().await.unwrap().forget();
                for (number, reply) in batch {
                    let _ = reply.send(number * 2);
                }
            }
        });
        let first = tokio::spawn({
            let coalescer = coalescer.clone();
            async move { coalescer.submit(|reply| (0, reply)).await }
        });
        while writes.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let asking = (1..100).map(|number| {
            let coalescer = coalescer.clone();
            async move { coalescer.submit(|reply| (number, reply)).await }
        });
        let others = tokio::spawn(futures::future::join_all(asking));
        gate.add_permits(1);
        assert_eq!(first.await.unwrap(), Some(0));
        gate.add_permits(99);
        let answers = others.await.unwrap();
        assert!(answers.iter().enumerate().all(|(n, answer)| *answer == Some((n as u32 + 1) * 2)));
        assert!(
            writes.load(Ordering::SeqCst) < 50,
            "{} writes for 100 items",
            writes.load(Ordering::SeqCst)
        );
    });
}

#[tokio::test(start_paused = true)]
async fn only_a_batch_of_several_is_not_followed_at_once() {
    const PACE: Duration = Duration::from_millis(10);
    let batches = BatchOptions { max_items: 100, max_shared_items: 100, min_interval: PACE };
    let coalescer = Coalescer::spawn_fair("paced", 100, batches, |batch: Vec<Item>| async move {
        for (number, reply) in batch {
            let _ = reply.send(number);
        }
    });
    let ask = |number| coalescer.submit(move |reply| (number, reply));
    let began = Instant::now();
    assert_eq!((ask(1).await, ask(2).await, began.elapsed()), (Some(1), Some(2), Duration::ZERO));
    let several = futures::future::join_all((0..5).map(ask)).await;
    assert!(several.iter().all(Option::is_some) && began.elapsed() < PACE);
    assert_eq!(ask(3).await, Some(3));
    assert!(began.elapsed() >= PACE, "{:?}", began.elapsed());
}

#[test]
fn a_panic_loses_its_own_batch_only() {
    let panics = run_counting_panics(async {
        let coalescer = Coalescer::spawn("panicking", 10, 1, |batch: Vec<Item>| async move {
            for (number, reply) in batch {
                assert_ne!(number, 13, "on purpose");
                let _ = reply.send(number);
            }
        });
        assert_eq!(coalescer.submit(|reply| (13, reply)).await, None);
        assert_eq!(coalescer.submit(|reply| (14, reply)).await, Some(14));
        coalescer.wait_until_drained().await;
    });
    assert_eq!(panics, 1);
}
