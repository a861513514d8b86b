//! Hazard: a process dies, or is paused beyond its lease, while it holds accepted orders.

use std::time::Duration;

use order_service::orders::db::{OrderAttemptOutcome, OrderState};
use store::testing::{create_control_database, run_test};

use crate::harness::{Process, proceed};

#[test]
fn accepted_orders_of_a_dead_process_are_carried_on_without_being_sent_again() {
    run_test(async {
        let pool = create_control_database().await;
        let dead = Process::hanging(&pool).await;
        dead.accept(&(0..500).map(|id| (id, 1)).collect::<Vec<_>>()).await.unwrap();
        let living = Process::working(&pool, proceed(&pool)).await;
        for id in 0..500 {
            let order = living.ended(id).await;
            assert_eq!(
                (order.state, order.attempts),
                (OrderState::ProcessFinished, 1),
                "a crash uses up no attempt"
            );
        }
    });
}

#[test]
fn so_many_orders_are_adopted_piece_by_piece_and_none_is_left() {
    run_test(async {
        let pool = create_control_database().await;
        let dead = Process::hanging(&pool).await;
        for batch in 0..4 {
            let orders: Vec<_> = (0..3000).map(|n| (batch * 3000 + n, 1)).collect();
            dead.accept(&orders).await.unwrap();
        }
        let living = Process::working(&pool, proceed(&pool)).await;
        for id in (0..12_000).rev().step_by(7) {
            assert_eq!(living.ended(id).await.state, OrderState::ProcessFinished);
        }
        let left: i64 = sqlx::query_scalar(
            "SELECT (SELECT count(*) FROM accepted_batches) + (SELECT count(*) FROM orders WHERE state < 4)",
        )
        .fetch_one(&pool)
        .await
        .unwrap();
        assert_eq!(left, 0);
    });
}

#[test]
fn a_process_that_wakes_up_too_late_cannot_fail_what_another_one_finished() {
    run_test(async {
        let pool = create_control_database().await;
        let paused = Process::hanging(&pool).await;
        paused.accept(&[(1, 1), (2, 1), (3, 1)]).await.unwrap();
        let mut in_hand = Vec::new();
        while in_hand.len() < 3 {
            in_hand.push(paused.exits.next().await.unwrap().attempt);
        }
        let living = Process::working(&pool, proceed(&pool)).await;
        for id in 1..=3 {
            living.ended(id).await;
        }
        let ends = [
            OrderAttemptOutcome::Dead { reason: "too late".to_owned() },
            OrderAttemptOutcome::Failed { reason: "too late".to_owned() },
            OrderAttemptOutcome::Dead { reason: "too late".to_owned() },
        ];
        for (work, end) in in_hand.into_iter().zip(ends) {
            paused.ender.write(work, end).await;
        }
        tokio::time::timeout(Duration::from_secs(10), paused.ender.wait_until_drained())
            .await
            .unwrap();
        for id in 1..=3 {
            let order = living.ended(id).await;
            assert_eq!(
                (order.state, order.attempts, order.last_error),
                (OrderState::ProcessFinished, 1, None)
            );
        }
        let left: i64 = sqlx::query_scalar(
            "SELECT (SELECT count(*) FROM jobs) + (SELECT count(*) FROM dead_jobs)",
        )
        .fetch_one(&pool)
        .await
        .unwrap();
        assert_eq!(left, 0);
    });
}
