//! Hazard: the callback comes at another moment than the mode says, or a slow order service blocks
//! questions.

use std::time::{Duration, Instant};

use data_manager::{CallbackMode, DataManagerSettings, DelayMs, draw_order_data};
use store::testing::run_test;

use crate::asking::{Manager, settings};
use crate::order_service::{Answer, OrderService};

fn with(service: &OrderService, mode: CallbackMode, delay_ms: u32) -> DataManagerSettings {
    let mut settings = settings(&[service]);
    settings.mode = mode;
    settings.misbehaviour.delay = DelayMs(delay_ms..=delay_ms);
    settings
}

#[test]
fn before_means_delivered_when_the_question_is_answered() {
    run_test(async {
        let service = OrderService::accepting().await;
        let manager = Manager::of(&service).await;
        let ids = [i32::MIN, -1, 0, 1, i32::MAX];
        for order_id in ids {
            manager.ask(order_id).await.unwrap();
            let last = service.received().pop().unwrap();
            assert_eq!((last.order_id, last.in_batch), (order_id, false));
            assert_eq!(last.data, draw_order_data(data_manager::Seed(0), order_id));
        }
        // A repeated question sends the same data.
        manager.ask(0).await.unwrap();
        let received = service.received();
        assert_eq!((received.len(), received[5]), (6, received[2]));
        let told = received.iter().map(|callback| (callback.order_id, callback.data)).collect();
        assert_eq!(manager.given().await, told);
        assert_eq!(manager.manager.counts().accepted, 6);
    });
}

#[test]
fn before_with_a_delay_still_means_before() {
    run_test(async {
        let service = OrderService::accepting().await;
        let manager = Manager::start(with(&service, CallbackMode::Before, 60)).await;
        let started = Instant::now();
        manager.ask(1).await.unwrap();
        assert!(started.elapsed() >= Duration::from_millis(60));
        assert_eq!(service.count(1), 1);
    });
}

#[test]
fn after_means_the_answer_comes_first() {
    run_test(async {
        let service = OrderService::accepting().await;
        let manager = Manager::start(with(&service, CallbackMode::After, 60)).await;
        let started = Instant::now();
        manager.ask(1).await.unwrap();
        assert_eq!(service.count(1), 0);
        service.until_count(1).await;
        assert!(started.elapsed() >= Duration::from_millis(60));
    });
}

#[test]
fn neither_after_nor_async_waits_for_the_order_service() {
    run_test(async {
        for mode in [CallbackMode::After, CallbackMode::Async] {
            let service = OrderService::planned(|_, _| Answer::AtTheGate).await;
            let manager = Manager::start(with(&service, mode, 0)).await;
            manager.ask(1).await.unwrap();
            service.until_count(1).await;
            assert_eq!(service.accepted(1), 0);
            service.open_gate();
            service.until("accepted", |received| received[0].accepted).await;
        }
    });
}

#[test]
fn seven_slow_callbacks_take_the_time_of_one() {
    run_test(async {
        let service = OrderService::accepting().await;
        let manager = Manager::start(with(&service, CallbackMode::After, 500)).await;
        let started = Instant::now();
        for order_id in 1..=7 {
            manager.ask(order_id).await.unwrap();
        }
        service.until_count(7).await;
        assert!(started.elapsed() < Duration::from_secs(2));
    });
}

#[test]
fn a_slow_order_service_does_not_hold_a_question_up_for_ever() {
    run_test(async {
        let service = OrderService::planned(|_, _| Answer::AtTheGate).await;
        let mut settings = settings(&[&service]);
        settings.delivery_options.delivery_timeout = Duration::from_millis(100);
        let manager = Manager::start(settings).await;
        let started = Instant::now();
        manager.ask(1).await.unwrap();
        let waited = started.elapsed();
        assert!(
            (Duration::from_millis(100)..Duration::from_secs(1)).contains(&waited),
            "{waited:?}"
        );
        // The delivery that timed out continues in the background.
        service.until_count(2).await;
        service.open_gate();
        manager.until(|counts| counts.accepted == 1).await;
    });
}

#[test]
fn a_question_that_is_cancelled_is_delivered_all_the_same() {
    run_test(async {
        let service = OrderService::planned(|_, _| Answer::AtTheGate).await;
        let manager = Manager::of(&service).await;
        let asked = tokio::time::timeout(Duration::from_millis(50), manager.ask(1)).await;
        assert!(asked.is_err(), "the gate is closed");
        service.until_count(2).await;
        service.open_gate();
        manager.until(|counts| counts.accepted == 1).await;
    });
}

#[test]
fn callbacks_alternate_between_two_order_services() {
    run_test(async {
        let (one, other) = (OrderService::accepting().await, OrderService::accepting().await);
        let manager = Manager::start(settings(&[&one, &other])).await;
        for order_id in 0..10 {
            manager.ask(order_id).await.unwrap();
        }
        assert_eq!((one.received().len(), other.received().len()), (5, 5));
        assert!(manager.ask_all(100..111).await.is_empty());
        let (first, second) = (one.received().len(), other.received().len());
        assert!((first, second) == (11, 10) || (first, second) == (10, 11), "{first} {second}");
    });
}
