//! Hazard: a failed callback is lost, blocks its question, or is retried forever.

use std::time::{Duration, Instant};

use data_manager::DataManagerSettings;
use store::testing::run_test;
use tonic::Code;

use crate::asking::{Manager, free_address, settings};
use crate::order_service::{Answer, OrderService};

fn quick(mut settings: DataManagerSettings) -> DataManagerSettings {
    settings.delivery_options.first_retry_wait = Duration::from_millis(5);
    settings
}

#[test]
fn what_fails_is_tried_again_behind_an_answered_question() {
    run_test(async {
        let third = |_, earlier| {
            if earlier < 2 { Answer::Refuse(Code::Unavailable) } else { Answer::Accept }
        };
        let service = OrderService::planned(third).await;
        let manager = Manager::of(&service).await;
        let started = Instant::now();
        manager.ask(1).await.unwrap();
        assert_eq!(service.accepted(1), 0, "the first failure answers the question");
        manager.until(|counts| counts.accepted == 1).await;
        // Backoffs of 100 ms and 200 ms, each reduced by at most 20% jitter.
        assert!(started.elapsed() >= Duration::from_millis(240));
        assert_eq!((service.count(1), manager.manager.counts().failed), (3, 2));
    });
}

#[test]
fn an_order_service_that_is_down_gets_its_callbacks_when_it_comes() {
    run_test(async {
        let address = free_address().await;
        let manager =
            Manager::start(quick(DataManagerSettings::in_process(vec![address.clone()]))).await;
        let started = Instant::now();
        for order_id in 0..20 {
            manager.ask(order_id).await.unwrap();
        }
        assert!(manager.ask_all(100..1600).await.is_empty());
        assert!(started.elapsed() < Duration::from_secs(2));
        let service = OrderService::on(&address, true, |_, _| Answer::Accept).await;
        manager.until(|counts| counts.accepted == 1520).await;
        assert_eq!(service.received().len(), 1520);
    });
}

#[test]
fn an_order_is_tried_again_by_one_message_however_often_it_was_asked_for() {
    run_test(async {
        let address = free_address().await;
        let mut settings = DataManagerSettings::in_process(vec![address.clone()]);
        settings.delivery_options.first_retry_wait = Duration::from_millis(700);
        settings.delivery_options.max_waiting_callbacks = 20;
        let manager = Manager::start(settings).await;
        for _ in 0..50 {
            manager.ask(7).await.unwrap();
        }
        let counts = manager.manager.counts();
        assert_eq!((counts.failed, counts.overflowed), (50, 0));
        let service = OrderService::on(&address, true, |_, _| Answer::Accept).await;
        manager.until(|counts| counts.accepted == 1).await;
        assert_eq!(manager.manager.stop().await.accepted, 1);
        assert_eq!(service.count(7), 1);
    });
}

#[test]
fn what_will_never_be_accepted_is_not_tried_again() {
    run_test(async {
        let codes = [Code::NotFound, Code::InvalidArgument, Code::AlreadyExists];
        let service =
            OrderService::planned(move |order_id, _| match codes.get(order_id as usize) {
                Some(code) => Answer::Refuse(*code),
                None => Answer::Accept,
            })
            .await;
        let manager = Manager::start(quick(settings(&[&service]))).await;
        for order_id in 0..4 {
            manager.ask(order_id).await.unwrap();
        }
        assert!(manager.ask_all(0..4).await.is_empty());
        let counts = manager.manager.stop().await;
        assert_eq!((counts.refused, counts.accepted, counts.failed), (6, 2, 0));
        assert_eq!(service.received().len(), 8);
    });
}

#[test]
fn what_fails_for_long_is_forgotten_until_asked_for_again() {
    run_test(async {
        let fourth =
            |_, earlier| if earlier < 4 { Answer::Refuse(Code::Internal) } else { Answer::Accept };
        let service = OrderService::planned(fourth).await;
        let mut settings = quick(settings(&[&service]));
        settings.delivery_options.retry_timeout = Duration::from_millis(20);
        let manager = Manager::start(settings).await;
        manager.ask(1).await.unwrap();
        manager.until(|counts| counts.forgotten == 1).await;
        let tries = service.count(1);
        assert!((2..=4).contains(&tries), "{tries}");
        while service.accepted(1) == 0 {
            manager.ask(1).await.unwrap();
        }
    });
}

#[test]
fn more_than_may_wait_is_dropped_and_counted() {
    run_test(async {
        let mut settings = DataManagerSettings::in_process(vec![free_address().await]);
        settings.delivery_options.max_waiting_callbacks = 10;
        settings.delivery_options.first_retry_wait = Duration::from_secs(60);
        settings.delivery_options.max_retry_wait = Duration::from_secs(60);
        let manager = Manager::start(settings).await;
        for order_id in 0..30 {
            manager.ask(order_id).await.unwrap();
        }
        assert_eq!(manager.manager.counts().overflowed, 20);
        let counts = manager.manager.stop().await;
        assert_eq!((counts.failed, counts.forgotten), (30, 10));
    });
}

#[test]
fn with_two_order_services_the_next_try_goes_to_the_other() {
    run_test(async {
        let service = OrderService::accepting().await;
        let addresses = vec![free_address().await, service.address.clone()];
        let manager = Manager::start(quick(DataManagerSettings::in_process(addresses))).await;
        for order_id in 0..10 {
            manager.ask(order_id).await.unwrap();
        }
        service.until_count(10).await;
        assert!(manager.ask_all(10..30).await.is_empty());
        service.until_count(30).await;
    });
}
