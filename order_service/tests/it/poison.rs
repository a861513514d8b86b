//! Hazard: a row that the database refuses for one order blocks the outcomes of
//! all others (poison message).

use std::sync::Arc;

use order_service::orders::db::OrderState::{Failed, ProcessFinished};
use order_service::orders::pipeline::{PassThrough, StageActions, StageError};
use store::testing::{create_control_database, run_test};

use crate::harness::{OwnData, Process, Special};

fn fails_with_unstorable_words() -> Result<(), StageError> {
    Err(StageError::Permanent(format!("no\0 {}", "x".repeat(1 << 20))))
}

#[test]
fn a_peers_words_are_cut_to_what_can_be_stored() {
    run_test(async {
        let pool = create_control_database().await;
        let stages = StageActions {
            start: Special::new(PassThrough, [(1, fails_with_unstorable_words as fn() -> _)]),
            external: Arc::new(OwnData::new(&pool)),
            finish: Arc::new(PassThrough),
        };
        let process = Process::working(&pool, stages).await;
        process.accept(&(1..=20).map(|id| (id, 1)).collect::<Vec<_>>()).await.unwrap();
        let order = process.ended(1).await;
        assert_eq!(order.state, Failed);
        assert!(order.last_error.unwrap().starts_with("no\u{fffd} xxx"));
        for id in 2..=20 {
            assert_eq!(process.ended(id).await.state, ProcessFinished);
        }
    });
}

#[test]
fn an_order_that_cannot_end_keeps_no_other_from_it() {
    run_test(async {
        let pool = create_control_database().await;
        let stages = StageActions {
            start: Arc::new(PassThrough),
            external: Special::new(OwnData::new(&pool), []),
            finish: Arc::new(PassThrough),
        };
        sqlx::query(
            "ALTER TABLE orders ADD CONSTRAINT all_but_one_end CHECK (order_id <> 7 OR state < 4)",
        )
        .execute(&pool)
        .await
        .unwrap();
        let process = Process::working(&pool, stages).await;
        process.accept(&(1..=50).map(|id| (id, 1)).collect::<Vec<_>>()).await.unwrap();
        for id in (1..=50).filter(|id| *id != 7) {
            assert_eq!(process.ended(id).await.state, ProcessFinished);
        }
        process.accept(&[(100, 1)]).await.unwrap();
        assert_eq!(process.ended(100).await.state, ProcessFinished);
        let waiting = process.until(7, |order| order.last_error.is_some()).await;
        assert!(
            waiting.last_error.unwrap().starts_with("CONSISTENCY_ERROR"),
            "and says why it waits"
        );
        // After the repair no restart is needed.
        sqlx::query("ALTER TABLE orders DROP CONSTRAINT all_but_one_end")
            .execute(&pool)
            .await
            .unwrap();
        assert_eq!(process.ended(7).await.state, ProcessFinished);
    });
}
