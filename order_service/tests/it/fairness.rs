//! Hazard: a request of 10,000 orders blocks all later ones (head-of-line blocking),
//! or retried orders starve.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use futures::future::BoxFuture;
use order_service::orders::db::{OrderAttempt, OrderState};
use order_service::orders::pipeline::{PassThrough, StageAction, StageActions, StageError};
use store::testing::{create_control_database, run_test};
use tokio::sync::Semaphore;

use crate::harness::{OwnData, Process};

/// Stage gate: lets orders pass one by one and records their sequence.
struct Gate {
    inner: OwnData,
    open: Semaphore,
    passed: Mutex<Vec<i32>>,
    /// Orders that fail at their first attempt.
    failing: fn(i32) -> bool,
}

impl StageAction for Gate {
    fn run<'a>(&'a self, order: &'a mut OrderAttempt) -> BoxFuture<'a, Result<(), StageError>> {
        Box::pin(async move {
            if order.attempts == 0 && (self.failing)(order.order_id.get()) {
                return Err(StageError::Transient("not yet".to_owned()));
            }
            self.open.acquire().await.unwrap().forget();
            self.passed.lock().unwrap().push(order.order_id.get());
            self.inner.run(order).await
        })
    }
}

impl Gate {
    fn place_of(&self, order_id: i32) -> usize {
        self.passed.lock().unwrap().iter().position(|passed| *passed == order_id).unwrap()
    }
}

async fn gated(failing: fn(i32) -> bool) -> (Process, Arc<Gate>) {
    let pool = create_control_database().await;
    let (open, passed) = (Semaphore::new(0), Mutex::default());
    let gate = Arc::new(Gate { inner: OwnData::new(&pool), open, passed, failing });
    let stages = StageActions {
        start: Arc::new(PassThrough),
        external: gate.clone(),
        finish: Arc::new(PassThrough),
    };
    (Process::working(&pool, stages).await, gate)
}

fn orders(ids: std::ops::Range<i32>) -> Vec<(i32, i32)> {
    ids.map(|order_id| (order_id, 1)).collect()
}

#[test]
fn a_single_order_does_not_wait_for_all_of_a_large_request() {
    run_test(async {
        let (process, gate) = gated(|_| false).await;
        process.accept(&orders(0..5000)).await.unwrap();
        process.accept(&orders(5000..10_000)).await.unwrap();
        for single in 20_000..20_003 {
            process.accept(&[(single, 1)]).await.unwrap();
        }
        gate.open.add_permits(100_000);
        for single in 20_000..20_003 {
            assert_eq!(process.ended(single).await.state, OrderState::ProcessFinished);
            // 16 orders are in the pipeline already; then the five requests take turns.
            assert!(gate.place_of(single) < 16 + 5 * 3, "it was number {}", gate.place_of(single));
        }
        process.ended(9999).await;
    });
}

#[test]
fn what_was_tried_before_comes_behind_what_is_new_but_has_its_share() {
    run_test(async {
        let (process, gate) = gated(|order_id| order_id < 1000).await;
        // Retries fill their half of the pipeline and wait.
        process.accept(&orders(0..1000)).await.unwrap();
        process.until(999, |order| order.attempts == 1).await;
        process.accept(&orders(10_000..10_400)).await.unwrap();
        gate.open.add_permits(400);
        while gate.passed.lock().unwrap().len() < 400 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let passed = gate.passed.lock().unwrap().clone();
        let new = passed.iter().filter(|order_id| **order_id >= 10_000).count();
        assert!((200..=350).contains(&new), "{new} of the first 400 were new");
        gate.open.add_permits(100_000);
        for order_id in [0, 500, 999, 10_399] {
            assert_eq!(process.ended(order_id).await.state, OrderState::ProcessFinished);
        }
    });
}
