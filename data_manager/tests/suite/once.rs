//! Hazard: with `--once` an order accepts two callbacks, or none is ever sent again.

use std::collections::HashSet;
use std::time::Duration;

use data_manager::{CallbackMode, DataManagerSettings};
use futures::future::join_all;
use store::testing::run_test;
use tonic::Code;

use crate::asking::{Manager, settings};
use crate::order_service::{Answer, OrderService};

fn once(service: &OrderService) -> DataManagerSettings {
    DataManagerSettings { once: true, ..settings(&[service]) }
}

/// The counter changes slightly before the delivery mark. Questions in between are answered without
/// a callback.
async fn assert_over(manager: &Manager, order_id: i32) {
    let over = async {
        while manager.ask(order_id).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(8), over).await.unwrap();
    assert_eq!(manager.refusal(order_id).await, (Code::Unknown, "already exists".to_owned()));
    let errors = manager.ask_all([order_id]).await;
    assert_eq!((errors[0].order_id, errors[0].code), (order_id, Code::Unknown.into()));
}

#[test]
fn however_many_ask_together_one_callback_is_accepted() {
    run_test(async {
        for mode in [CallbackMode::Before, CallbackMode::After, CallbackMode::Async] {
            let service = OrderService::accepting().await;
            let manager = Manager::start(DataManagerSettings { mode, ..once(&service) }).await;
            let single = join_all((0..200).map(|n| manager.ask(n % 4)));
            let batches = join_all((0..20).map(|_| manager.ask_all(0..8)));
            let (answers, errors) = tokio::join!(single, batches);
            for refusal in answers.into_iter().filter_map(Result::err) {
                assert_eq!(refusal.message(), "already exists");
            }
            assert!(errors.iter().flatten().all(|error| error.message == "already exists"));
            manager.until(|counts| counts.accepted == 8).await;
            for order_id in 0..8 {
                assert_over(&manager, order_id).await;
                assert_eq!(service.count(order_id), 1, "{mode:?}");
            }
        }
    });
}

#[test]
fn questions_while_it_is_under_way_send_nothing_more() {
    run_test(async {
        let service = OrderService::planned(|_, _| Answer::AtTheGate).await;
        let manager = Manager::start(once(&service)).await;
        let open = async {
            service.until_count(1).await;
            manager.until(|counts| counts.questions == 50).await;
            service.open_gate();
        };
        let (answers, ()) = tokio::join!(join_all((0..50).map(|_| manager.ask(1))), open);
        assert!(answers.iter().all(Result::is_ok));
        assert_over(&manager, 1).await;
        assert_eq!(service.count(1), 1);
    });
}

#[test]
fn an_answer_that_is_lost_means_one_more_callback() {
    run_test(async {
        let lost = |_, earlier| if earlier < 2 { Answer::AcceptInSilence } else { Answer::Accept };
        let service = OrderService::planned(lost).await;
        let manager = Manager::start(once(&service)).await;
        manager.ask(1).await.unwrap();
        manager.until(|counts| counts.accepted == 1).await;
        assert_over(&manager, 1).await;
        let told: HashSet<_> = service.received().iter().map(|callback| callback.data).collect();
        assert_eq!((service.count(1), told.len()), (3, 1));
    });
}

#[test]
fn it_is_never_forgotten() {
    run_test(async {
        let late = |_, earlier| {
            if earlier < 8 { Answer::Refuse(Code::Unavailable) } else { Answer::Accept }
        };
        let service = OrderService::planned(late).await;
        let mut settings = once(&service);
        settings.delivery_options.first_retry_wait = Duration::from_millis(1);
        settings.delivery_options.retry_timeout = Duration::from_millis(1);
        let manager = Manager::start(settings).await;
        manager.ask(1).await.unwrap();
        manager.until(|counts| counts.accepted == 1).await;
        assert_eq!(service.count(1), 9);
        assert_over(&manager, 1).await;
    });
}

#[test]
fn a_further_question_delivers_at_once_what_waits_for_its_next_try() {
    run_test(async {
        let second = |_, earlier| {
            if earlier < 1 { Answer::Refuse(Code::Unavailable) } else { Answer::Accept }
        };
        let service = OrderService::planned(second).await;
        let mut settings = once(&service);
        settings.delivery_options.first_retry_wait = Duration::from_secs(600);
        settings.delivery_options.max_retry_wait = Duration::from_secs(600);
        let manager = Manager::start(settings).await;
        manager.ask(1).await.unwrap();
        assert_eq!(service.count(1), 1);
        manager.ask(1).await.unwrap();
        assert_eq!((service.count(1), service.accepted(1)), (2, 1));
        assert_over(&manager, 1).await;
    });
}

#[test]
fn refused_or_too_many_means_undelivered_until_asked_again() {
    run_test(async {
        let second =
            |_, earlier| if earlier < 1 { Answer::Refuse(Code::NotFound) } else { Answer::Accept };
        let service = OrderService::planned(second).await;
        let mut settings = once(&service);
        settings.delivery_options.max_waiting_callbacks = 1;
        let manager = Manager::start(settings).await;
        manager.ask(1).await.unwrap();
        manager.until(|counts| counts.refused == 1).await;
        manager.ask(1).await.unwrap();
        assert_over(&manager, 1).await;

        assert!(manager.ask_all([2, 3]).await.is_empty());
        assert_eq!((manager.manager.counts().overflowed, service.count(2)), (2, 0));
        manager.ask(2).await.unwrap();
        assert_eq!(service.count(2), 1);
    });
}

#[test]
fn duplicates_are_not_sent() {
    run_test(async {
        let service = OrderService::accepting().await;
        let mut settings = once(&service);
        settings.misbehaviour.duplicate_rate = 1.0;
        let manager = Manager::start(settings).await;
        for order_id in 0..20 {
            manager.ask(order_id).await.unwrap();
        }
        let counts = manager.manager.stop().await;
        assert_eq!((counts.accepted, service.received().len()), (20, 20));
    });
}
