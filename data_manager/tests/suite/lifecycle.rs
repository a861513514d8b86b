//! Hazard: a stop cuts off open questions or hangs; a peer cannot see the health status or read a
//! long list.

use std::time::{Duration, Instant};

use data_manager::{
    CallbackMode, DataManagerSettings, DataManagerStartError, DelayMs, RunningDataManager,
};
use serving::listen::ListenError;
use store::testing::run_test;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::asking::{Manager, channel, settings};
use crate::order_service::{Answer, OrderService};

#[test]
fn an_open_question_is_answered_while_it_stops() {
    run_test(async {
        let service = OrderService::planned(|_, _| Answer::AtTheGate).await;
        let mut settings = settings(&[&service]);
        settings.delivery_options.delivery_timeout = Duration::from_secs(5);
        let Manager { manager, client } = Manager::start(settings).await;
        let request = proto::data_manager::GetOrderDataCallbackRequest { order_id: 1 };
        let asked =
            tokio::spawn(async move { client.clone().get_order_data_callback(request).await });
        service.until_count(1).await;
        let stop = tokio::spawn(manager.stop());
        service.open_gate();
        asked.await.unwrap().unwrap();
        assert_eq!(stop.await.unwrap().accepted, 1);
    });
}

#[test]
fn callbacks_that_were_promised_are_sent_before_it_ends() {
    run_test(async {
        let service = OrderService::accepting().await;
        let mut settings = settings(&[&service]);
        settings.mode = CallbackMode::After;
        settings.misbehaviour.delay = DelayMs(60_000..=60_000);
        let manager = Manager::start(settings).await;
        manager.ask(1).await.unwrap();
        assert!(manager.ask_all(2..5).await.is_empty());
        let started = Instant::now();
        assert_eq!(manager.manager.stop().await.accepted, 4);
        assert!(started.elapsed() < Duration::from_secs(2));
    });
}

#[test]
fn health_says_serving_and_then_not_and_who_watches_it_holds_nothing_up() {
    run_test(async {
        let service = OrderService::accepting().await;
        let Manager { manager, .. } = Manager::of(&service).await;
        let mut health = HealthClient::new(channel(manager.port()));
        for name in ["", "data_manager.DataManager"] {
            let request = HealthCheckRequest { service: name.to_owned() };
            let status = health.check(request).await.unwrap().into_inner().status;
            assert_eq!(status, ServingStatus::Serving as i32);
        }
        let mut watched = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        assert_eq!(watched.message().await.unwrap().unwrap().status, ServingStatus::Serving as i32);
        let started = Instant::now();
        let stop = tokio::spawn(manager.stop());
        assert_eq!(
            watched.message().await.unwrap().unwrap().status,
            ServingStatus::NotServing as i32
        );
        while let Ok(Some(_)) = watched.message().await {}
        stop.await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(2));
    });
}

#[test]
fn a_list_longer_than_four_megabytes_can_be_read() {
    run_test(async {
        let service = OrderService::accepting().await;
        let mut settings = settings(&[&service]);
        settings.misbehaviour.drop_rate = 1.0;
        let manager = Manager::start(settings).await;
        for start in 0..40 {
            assert!(manager.ask_all(start * 10_000..(start + 1) * 10_000).await.is_empty());
        }
        assert_eq!(manager.given().await.len(), 400_000);
        let listed = manager.client.clone().get_orders_data(()).await.unwrap().into_inner();
        assert!(prost::Message::encoded_len(&listed) > 4 << 20);
    });
}

#[test]
fn a_port_in_use_and_an_open_door_are_refused() {
    run_test(async {
        let service = OrderService::accepting().await;
        let first = Manager::of(&service).await;
        let port = first.manager.port();
        let same = DataManagerSettings { app_port: port, ..settings(&[&service]) };
        let error = RunningDataManager::start(same).await.err().unwrap();
        assert!(
            matches!(error, DataManagerStartError::Listen(ListenError::InUse { .. }))
                && !error.is_usage_error()
        );
        let open = DataManagerSettings {
            listen: vec!["0.0.0.0".parse().unwrap()],
            ..settings(&[&service])
        };
        assert!(RunningDataManager::start(open).await.err().unwrap().is_usage_error());
        let nowhere = DataManagerSettings::in_process(vec!["nowhere".to_owned()]);
        assert!(RunningDataManager::start(nowhere).await.err().unwrap().is_usage_error());
    });
}
