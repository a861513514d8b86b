//! Hazard: one order or an old order service causes a batch to be lost, duplicated or refused as a
//! whole.

use proto::data_manager::GetOrdersDataCallbackRequest;
use store::testing::run_test;
use tonic::Code;

use crate::asking::{Manager, settings};
use crate::order_service::{Answer, OrderService};

#[test]
fn a_batch_is_answered_by_batches_of_bounded_size() {
    run_test(async {
        let service = OrderService::accepting().await;
        let manager = Manager::of(&service).await;
        let ids = (-1250..1250).chain([0, 1, 2]); // three ids are duplicates
        assert!(manager.ask_all(ids).await.is_empty());
        let received = service.received();
        assert_eq!((received.len(), service.batches()), (2500, (3, 0)));
        assert!(received.iter().all(|callback| callback.in_batch));
        let told = received.iter().map(|callback| (callback.order_id, callback.data)).collect();
        assert_eq!(manager.given().await, told);
        assert!(manager.ask_all([]).await.is_empty());
    });
}

#[test]
fn more_orders_than_allowed_are_refused() {
    run_test(async {
        let service = OrderService::accepting().await;
        let manager = Manager::of(&service).await;
        let request = GetOrdersDataCallbackRequest { order_ids: (0..10_001).collect() };
        let refusal = manager.client.clone().get_orders_data_callback(request).await.unwrap_err();
        assert_eq!((refusal.code(), refusal.details().is_empty()), (Code::InvalidArgument, false));
        assert!(manager.given().await.is_empty());
    });
}

#[test]
fn an_error_counts_for_its_order_only() {
    run_test(async {
        let service = OrderService::planned(|order_id, earlier| match (order_id, earlier) {
            (1, _) => Answer::Refuse(Code::NotFound),
            (2, 0) => Answer::Refuse(Code::Unavailable),
            (3, 0) => Answer::AcceptInSilence,
            _ => Answer::Accept,
        })
        .await;
        let manager = Manager::of(&service).await;
        assert!(manager.ask_all(0..5).await.is_empty());
        manager.until(|counts| counts.accepted == 4).await;
        let tries: Vec<usize> = (0..5).map(|order_id| service.count(order_id)).collect();
        assert_eq!((tries, service.batches().0), (vec![1, 1, 2, 2, 1], 2));
    });
}

#[test]
fn an_old_order_service_gets_single_callbacks_and_is_not_asked_twice() {
    run_test(async {
        let old = OrderService::on("127.0.0.1:0", false, |_, _| Answer::Accept).await;
        let manager = Manager::of(&old).await;
        for start in [0, 300, 600] {
            assert!(manager.ask_all(start..start + 300).await.is_empty());
        }
        assert_eq!((old.received().len(), old.batches()), (900, (0, 1)));
        assert!(old.received().iter().all(|callback| !callback.in_batch));

        let address = old.stop().await;
        manager.ask(-1).await.unwrap(); // notices the broken connection
        let new = OrderService::on(&address, true, |_, _| Answer::Accept).await;
        new.until_count(1).await;
        assert!(manager.ask_all(900..1000).await.is_empty());
        manager.until(|counts| counts.accepted == 1001).await;
        assert!(new.received().iter().filter(|callback| callback.in_batch).count() == 100);
    });
}

#[test]
fn a_failing_single_callback_of_a_batch_is_tried_again() {
    run_test(async {
        let plan = |order_id, earlier| match (order_id, earlier) {
            (7, 0) => Answer::Refuse(Code::Unavailable),
            _ => Answer::Accept,
        };
        let old = OrderService::on("127.0.0.1:0", false, plan).await;
        let manager = Manager::start(settings(&[&old])).await;
        assert!(manager.ask_all(0..10).await.is_empty());
        manager.until(|counts| counts.accepted == 10).await;
        assert_eq!((old.received().len(), old.count(7)), (11, 2));
    });
}
