//! Hazard: faults occur without being requested, or differ between runs with the same seed.

use std::collections::BTreeSet;

use data_manager::{DataManagerSettings, MisbehaviourSettings, Seed};
use store::testing::run_test;
use tonic::Code;

use crate::asking::{Manager, settings};
use crate::order_service::OrderService;

fn wild(
    service: &OrderService,
    seed: u64,
    misbehaviour: MisbehaviourSettings,
) -> DataManagerSettings {
    DataManagerSettings { seed: Seed(seed), misbehaviour, ..settings(&[service]) }
}

/// Which of 200 orders got a callback, asked one by one or in one batch.
async fn called_back(seed: u64, in_batch: bool) -> (BTreeSet<i32>, u64) {
    let service = OrderService::accepting().await;
    let lossy = MisbehaviourSettings { drop_rate: 0.3, ..MisbehaviourSettings::default() };
    let manager = Manager::start(wild(&service, seed, lossy)).await;
    if in_batch {
        assert!(manager.ask_all(0..200).await.is_empty());
    } else {
        for order_id in (0..200).rev() {
            manager.ask(order_id).await.unwrap();
        }
    }
    assert_eq!(manager.given().await.len(), 200, "what is lost on the way was given");
    let received = service.received().iter().map(|callback| callback.order_id).collect();
    (received, manager.manager.counts().dropped)
}

#[test]
fn the_same_seed_loses_the_same_callbacks() {
    run_test(async {
        let (first, dropped) = called_back(1, false).await;
        assert!((120..160).contains(&first.len()));
        assert_eq!(first.len() as u64 + dropped, 200);
        assert_eq!(called_back(1, true).await, (first.clone(), dropped));
        assert_ne!(called_back(2, false).await.0, first);
    });
}

#[test]
fn a_lost_callback_comes_when_asked_for_again() {
    run_test(async {
        let service = OrderService::accepting().await;
        let lossy = MisbehaviourSettings { drop_rate: 0.5, ..MisbehaviourSettings::default() };
        let manager = Manager::start(wild(&service, 1, lossy)).await;
        for order_id in 0..50 {
            while service.count(order_id) == 0 {
                manager.ask(order_id).await.unwrap();
            }
        }
        assert!(manager.manager.counts().dropped > 20);
    });
}

#[test]
fn every_callback_can_come_twice_with_the_same_data() {
    run_test(async {
        let service = OrderService::accepting().await;
        let twice = MisbehaviourSettings { duplicate_rate: 1.0, ..MisbehaviourSettings::default() };
        let manager = Manager::start(wild(&service, 1, twice)).await;
        manager.ask(1).await.unwrap();
        assert!(manager.ask_all(2..=3).await.is_empty());
        service.until_count(6).await;
        let counts = manager.manager.stop().await;
        let mut told = service.received();
        told.sort_by_key(|callback| callback.order_id);
        assert_eq!((told.len(), counts.duplicated), (6, 3));
        assert!(told.chunks(2).all(|pair| pair[0] == pair[1]));
    });
}

#[test]
fn questions_fail_as_often_as_asked_for() {
    run_test(async {
        let service = OrderService::accepting().await;
        let failing = MisbehaviourSettings { error_rate: 0.5, ..MisbehaviourSettings::default() };
        let manager = Manager::start(wild(&service, 3, failing)).await;
        let mut failed = 0;
        for order_id in 0..100 {
            if let Err(status) = manager.ask(order_id).await {
                assert_eq!(status.code(), Code::Unavailable);
                assert_eq!(service.count(order_id), 0);
                failed += 1;
            }
        }
        assert!((30..70).contains(&failed), "{failed}");
        let errors = manager.ask_all(1000..1100).await;
        assert!(errors.iter().all(|error| error.code == i32::from(Code::Unavailable)));
        assert!((30..70).contains(&errors.len()), "{}", errors.len());
        assert_eq!(manager.manager.counts().errors, failed + errors.len() as u64);
    });
}

#[test]
fn by_default_nothing_goes_wrong() {
    run_test(async {
        let service = OrderService::accepting().await;
        let manager = Manager::of(&service).await;
        for order_id in 0..100 {
            manager.ask(order_id).await.unwrap();
        }
        assert!(manager.ask_all(100..200).await.is_empty());
        let counts = manager.manager.stop().await;
        assert_eq!((counts.accepted, service.received().len()), (200, 200));
        assert_eq!(counts.dropped + counts.duplicated + counts.errors + counts.failed, 0);
    });
}
