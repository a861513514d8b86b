//! Hazard: a single clock reading gives an order up after few attempts, or although its
//! events may be posted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use order_service::orders::db::OrderState::{Failed, ProcessFinished};
use order_service::orders::db::{GiveUpPolicy, OrderAttempt, OrderCallback};
use order_service::orders::pipeline::{PassThrough, StageAction, StageActions, StageError};
use store::testing::{create_control_database, run_test};

use crate::harness::{GIVE_UP, OwnData, Process, data, proceed};

/// No time limit: only the number of attempts counts.
const AT_ONCE: GiveUpPolicy = GiveUpPolicy { after: Duration::ZERO, min_attempts: 10, ..GIVE_UP };

/// Fails `times` times, then succeeds.
#[derive(Default)]
struct FailsFor {
    times: usize,
    failed: AtomicUsize,
}

impl StageAction for FailsFor {
    fn run<'a>(&'a self, _: &'a mut OrderAttempt) -> BoxFuture<'a, Result<(), StageError>> {
        let fails = self.failed.fetch_add(1, Ordering::SeqCst) < self.times;
        let outcome = if fails { Err(StageError::Transient("not now".to_owned())) } else { Ok(()) };
        Box::pin(std::future::ready(outcome))
    }
}

#[test]
fn an_order_is_given_up_only_when_it_was_tried_often_enough() {
    run_test(async {
        let pool = create_control_database().await;
        let external = Arc::new(FailsFor { times: usize::MAX, ..FailsFor::default() });
        let stages = StageActions { external: external.clone(), ..proceed(&pool) };
        let process = Process::working_with(&pool, stages, AT_ONCE).await;
        process.accept(&[(1, 1)]).await.unwrap();
        let order = process.ended(1).await;
        assert_eq!((order.state, order.attempts), (Failed, 10));
        assert!(order.last_error.unwrap().starts_with("given up after 0s"));
    });
}

#[test]
fn an_order_whose_data_is_stored_is_never_given_up() {
    run_test(async {
        let pool = create_control_database().await;
        let stages = StageActions {
            start: Arc::new(PassThrough),
            external: Arc::new(OwnData::new(&pool)),
            finish: Arc::new(FailsFor { times: 15, ..FailsFor::default() }),
        };
        let process = Process::working_with(&pool, stages, AT_ONCE).await;
        process.accept(&[(1, 1)]).await.unwrap();
        let order = process.ended(1).await;
        assert_eq!((order.state, order.attempts), (ProcessFinished, 16));
    });
}

#[test]
fn data_that_comes_during_the_last_attempt_saves_the_order() {
    run_test(async {
        let pool = create_control_database().await;
        let stages =
            StageActions { external: Arc::new(LateData(OwnData::new(&pool))), ..proceed(&pool) };
        let process =
            Process::working_with(&pool, stages, GiveUpPolicy { min_attempts: 1, ..AT_ONCE }).await;
        process.accept(&[(1, 1)]).await.unwrap();
        let order = process.ended(1).await;
        assert_eq!((order.state, order.data), (ProcessFinished, Some(data(1))));
    });
}

/// The first retry stores the data, but the attempt does not receive it.
struct LateData(OwnData);

impl StageAction for LateData {
    fn run<'a>(&'a self, order: &'a mut OrderAttempt) -> BoxFuture<'a, Result<(), StageError>> {
        Box::pin(async move {
            match order.attempts {
                0 => {}
                1 => {
                    let callback =
                        OrderCallback { order_id: order.order_id, data: data(order.order_id) };
                    self.0.0.store(callback).await.unwrap();
                }
                _ => return if order.data.is_some() { Ok(()) } else { self.0.run(order).await },
            }
            Err(StageError::Transient("no callback".to_owned()))
        })
    }
}
