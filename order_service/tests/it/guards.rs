//! Promise: answers are durable, an order ends once, and a process without the lane decides
//! nothing. One test per guard; each fails without its guard (scripts/mutants/list.txt).

use std::future::Future;
use std::time::Duration;

use faults::{Fault, FaultAction, start_database_proxy};
use order_service::orders::db::{
    CallbackOutcome, OrderAttempt, OrderAttemptOutcome, OrderCallback, OrderState, get_order,
};
use store::PgPool;
use store::testing::{control_database_options, create_control_database, open_test_pool, run_test};
use tokio::time::timeout;

use crate::harness::{Process, data, proceed};

/// Timeout for an answer that waits for nothing.
const AT_ONCE: Duration = Duration::from_millis(500);
const SOON: Duration = Duration::from_secs(20);

/// Asserts that the answer waits for the commit: not while `orders` is locked, but afterwards.
async fn only_after_the_commit<T: Send + 'static>(
    pool: &PgPool,
    answer: impl Future<Output = T> + Send + 'static,
) -> T {
    let mut lock = pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let mut answer = tokio::spawn(answer);
    assert!(timeout(AT_ONCE, &mut answer).await.is_err(), "answered before it was durable");
    lock.commit().await.unwrap();
    timeout(SOON, answer).await.unwrap().unwrap()
}

async fn count(pool: &PgPool, what: &'static str) -> i64 {
    sqlx::query_scalar(what).fetch_one(pool).await.unwrap()
}

/// Accepts these orders and stores their data, without running the stages.
async fn attempts(process: &Process, orders: &[(i32, i32)]) -> Vec<OrderAttempt> {
    process.accept(orders).await.unwrap();
    let mut attempts = Vec::new();
    for _ in orders {
        let mut attempt = process.exits.next().await.unwrap().attempt;
        let callback = OrderCallback { order_id: attempt.order_id, data: data(attempt.order_id) };
        assert_eq!(process.callbacks.store(callback).await.unwrap(), CallbackOutcome::Stored);
        attempt.data = Some(callback.data);
        attempts.push(attempt);
    }
    attempts
}

fn fails() -> OrderAttemptOutcome {
    OrderAttemptOutcome::Dead { reason: "no".to_owned() }
}

#[test]
fn nothing_is_accepted_into_a_lane_that_was_taken_over() {
    run_test(async {
        let pool = create_control_database().await;
        let process = Process::hanging(&pool).await;
        let old = process.jobs.own_lane();
        sqlx::query(
            "UPDATE leases SET epoch = epoch + 1, owner = gen_random_uuid() WHERE lease_id = $1",
        )
        .bind(old.id)
        .execute(&pool)
        .await
        .unwrap();
        process.accept(&[(1, 1)]).await.unwrap();
        let lane = count(&pool, "SELECT lane FROM accepted_batches").await;
        assert_ne!(lane, old.id.get(), "nobody would carry it on");
        assert_eq!(lane, process.jobs.own_lane().id.get());
    });
}

#[test]
fn an_accepted_order_is_durable_before_it_is_answered() {
    run_test(async {
        let pool = create_control_database().await;
        let process = Process::hanging(&pool).await;
        let accepted = only_after_the_commit(&pool, async move { process.accept(&[(1, 1)]).await });
        accepted.await.unwrap();
        assert_eq!(
            get_order(&pool, 1.into()).await.unwrap().unwrap().state,
            OrderState::Initialized
        );
    });
}

#[test]
fn a_callback_is_durable_before_it_is_answered() {
    run_test(async {
        let pool = create_control_database().await;
        let process = Process::hanging(&pool).await;
        process.accept(&[(1, 1)]).await.unwrap();
        let callback = OrderCallback { order_id: 1.into(), data: data(1) };
        let stored =
            only_after_the_commit(&pool, async move { process.callbacks.store(callback).await });
        assert_eq!(stored.await.unwrap(), CallbackOutcome::Stored);
        assert_eq!(get_order(&pool, 1.into()).await.unwrap().unwrap().data, Some(data(1)));
    });
}

#[test]
fn an_accept_whose_answer_was_lost_goes_on() {
    run_test(async {
        let (options, proxy) =
            start_database_proxy(&control_database_options().await).await.unwrap();
        let pool = open_test_pool(options).await;
        let process = Process::working(&pool, proceed(&pool)).await;
        let fault = proxy.inject(Fault::at_statement("accept_orders", FaultAction::CutReply));
        process.accept(&[(1, 1), (2, 2)]).await.unwrap();
        assert_eq!(fault.counts().injected, 1);
        for order_id in [1, 2] {
            let order =
                timeout(SOON, process.ended(order_id)).await.expect("somebody carries it on");
            assert_eq!((order.state, order.attempts), (OrderState::ProcessFinished, 1));
        }
    });
}

#[test]
fn an_order_that_has_failed_is_not_finished_by_a_late_attempt() {
    run_test(async {
        let pool = create_control_database().await;
        let process = Process::hanging(&pool).await;
        let attempt = attempts(&process, &[(1, 1), (2, 2)]).await.remove(0);
        for end in [fails(), OrderAttemptOutcome::Finished] {
            process.ender.write(attempt.clone(), end).await;
            process.ender.wait_until_drained().await;
        }
        assert_eq!(
            get_order(&pool, attempt.order_id).await.unwrap().unwrap().state,
            OrderState::Failed
        );
    });
}

#[test]
fn an_order_that_is_finished_does_not_fail_later() {
    run_test(async {
        let pool = create_control_database().await;
        let process = Process::hanging(&pool).await;
        let attempt = attempts(&process, &[(1, 1), (2, 2)]).await.remove(0);
        for end in [OrderAttemptOutcome::Finished, fails()] {
            process.ender.write(attempt.clone(), end).await;
            process.ender.wait_until_drained().await;
        }
        assert_eq!(
            get_order(&pool, attempt.order_id).await.unwrap().unwrap().state,
            OrderState::ProcessFinished
        );
    });
}

#[test]
fn a_batch_goes_with_the_last_of_its_orders() {
    run_test(async {
        let pool = create_control_database().await;
        let process = Process::hanging(&pool).await;
        let batches = "SELECT count(*) FROM accepted_batches";
        let attempts = attempts(&process, &[(1, 1), (2, 2)]).await;
        for (attempt, left) in attempts.into_iter().zip([1, 0]) {
            process.ender.write(attempt, OrderAttemptOutcome::Finished).await;
            process.ender.wait_until_drained().await;
            assert_eq!(count(&pool, batches).await, left);
        }
    });
}

#[test]
fn each_end_is_told_once() {
    run_test(async {
        let pool = create_control_database().await;
        let process = Process::hanging(&pool).await;
        let attempts = attempts(&process, &[(1, 1), (2, 2)]).await;
        for _ in 0..2 {
            process.ender.write(attempts[0].clone(), OrderAttemptOutcome::Finished).await;
            process.ender.wait_until_drained().await;
        }
        process.ender.write(attempts[1].clone(), fails()).await;
        process.ender.wait_until_drained().await;
        let told = "SELECT 10 * sum(cardinality(processed)) + sum(cardinality(failed)) FROM order_outcomes";
        assert_eq!(count(&pool, told).await, 11, "one finished, one failed");
    });
}

async fn until_one_waits_for_a_lock(pool: &PgPool) {
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND wait_event_type = 'Lock'";
    while count(pool, waiting).await == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn locked(pool: &PgPool, order: &'static str) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let mut lock = pool.begin().await.unwrap();
    sqlx::query(order).execute(&mut *lock).await.unwrap();
    lock
}

/// Outcomes of several kinds would lock orders kind by kind, and deadlock with a write of callbacks.
#[test]
fn outcomes_of_several_kinds_lock_their_orders_by_id() {
    run_test(async {
        let pool = create_control_database().await;
        let process = Process::hanging(&pool).await;
        let mut attempts = attempts(&process, &[(1, 1), (2, 1), (3, 1)]).await;
        attempts.sort_unstable_by_key(|attempt| std::cmp::Reverse(attempt.order_id));
        let failed = OrderAttemptOutcome::Failed { reason: "later".to_owned() };
        let first = locked(&pool, "SELECT FROM orders WHERE order_id = 1 FOR UPDATE").await;
        let third = locked(&pool, "SELECT FROM orders WHERE order_id = 3 FOR UPDATE").await;
        let mut attempts = attempts.into_iter();
        process.ender.write(attempts.next().unwrap(), failed.clone()).await;
        until_one_waits_for_a_lock(&pool).await;
        // These two are the next batch.
        process.ender.write(attempts.next().unwrap(), failed).await;
        process.ender.write(attempts.next().unwrap(), fails()).await;
        third.commit().await.unwrap();
        process.until(3, |order| order.last_error.is_some()).await;
        until_one_waits_for_a_lock(&pool).await;
        let free =
            "SELECT count(*) FROM (SELECT FROM orders WHERE order_id = 2 FOR UPDATE SKIP LOCKED) o";
        assert_eq!(count(&pool, free).await, 1, "order 2 is locked before order 1");
        first.commit().await.unwrap();
        assert_eq!(process.ended(1).await.state, OrderState::Failed);
        process.until(2, |order| order.last_error.is_some()).await;
    });
}
