//! Hazard: a panic in a stage's action affects other orders, the worker or the process.

use std::sync::Arc;

use order_service::orders::db::OrderState::{self, *};
use order_service::orders::pipeline::{PassThrough, StageActions, StageError};
use store::testing::{create_control_database, run_counting_panics};

use crate::harness::{OwnData, Process, Special, data, states};

fn panics() -> Result<(), StageError> {
    panic!("on purpose")
}

#[test]
fn a_panicking_order_fails_with_the_states_it_reached_and_all_others_finish() {
    let count = run_counting_panics(async {
        let pool = create_control_database().await;
        let stages = StageActions {
            start: Special::new(PassThrough, [(1, panics as fn() -> _)]),
            external: Special::new(OwnData::new(&pool), [(2, panics as fn() -> _)]),
            finish: Special::new(PassThrough, [(3, panics as fn() -> _)]),
        };
        let process = Process::working(&pool, stages).await;
        let orders: Vec<(i32, i32)> = (1..=100).map(|order_id| (order_id, 7)).collect();
        process.accept(&orders).await.unwrap();
        let reached: [(i32, &[OrderState]); 3] = [
            (1, &[Initialized, Failed]),
            (2, &[Initialized, ProcessStarted, Failed]),
            (3, &[Initialized, ProcessStarted, FinishedExternalInteraction, Failed]),
        ];
        for (order_id, expected) in reached {
            let order = process.ended(order_id).await;
            assert_eq!(states(&order), expected);
            assert_eq!(order.state, Failed);
            assert_eq!(order.attempts, 1);
            let reason = order.last_error.unwrap();
            assert!(reason.starts_with("LOGIC_ERROR") && reason.contains("on purpose"), "{reason}");
        }
        for order_id in 4..=100 {
            let order = process.ended(order_id).await;
            assert_eq!(order.state, ProcessFinished);
            assert_eq!(order.data, Some(data(order_id)));
        }
        let open: i64 = sqlx::query_scalar(
            "SELECT (SELECT count(*) FROM jobs) + (SELECT count(*) FROM accepted_batches)",
        )
        .fetch_one(&pool)
        .await
        .unwrap();
        assert_eq!(open, 0, "nothing is left in hand or in the queue");
    });
    assert!(count > 0, "the panics on purpose never happened");
}

#[test]
fn a_failed_order_is_revived_by_retry_only_and_keeps_its_failure() {
    let _ = run_counting_panics(async {
        let pool = create_control_database().await;
        static BROKEN: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(true);
        fn breaks() -> Result<(), StageError> {
            if BROKEN.swap(false, std::sync::atomic::Ordering::SeqCst) { panics() } else { Ok(()) }
        }
        let stages = StageActions {
            start: Arc::new(PassThrough),
            external: Arc::new(OwnData::new(&pool)),
            finish: Special::new(PassThrough, [(1, breaks as fn() -> _)]),
        };
        let process = Process::working(&pool, stages).await;
        process.accept(&[(1, 7)]).await.unwrap();
        process.until(1, |order| order.state == Failed).await;
        let again = process.accept(&[(1, 7)]).await.unwrap();
        assert_eq!(again.ended_orders.len(), 1, "the stored result, and nothing else");
        order_service::orders::db::retry_order(
            &pool,
            &process.jobs,
            1.into(),
            &audit::AuditActor::of_service("test"),
        )
        .await
        .unwrap();
        let order = process.until(1, |order| order.state == ProcessFinished).await;
        let expected =
            [Initialized, ProcessStarted, FinishedExternalInteraction, Failed, ProcessFinished];
        assert_eq!(states(&order), expected);
        assert_eq!((order.attempts, order.last_error), (2, None));
    });
}
