//! Hazard: concurrent requests or replicas with the same orders: a request is accepted partially,
//! or an order twice.

use std::collections::HashMap;

use futures::future::join_all;
use order_service::orders::OrderId;
use order_service::orders::db::{AcceptError, OrderState};
use store::testing::{create_control_database, run_test};

use crate::harness::{Process, proceed};

#[test]
fn a_request_with_an_order_of_another_product_is_refused_whole() {
    run_test(async {
        let pool = create_control_database().await;
        let process = Process::working(&pool, proceed(&pool)).await;
        process.accept(&[(1, 1), (2, 2)]).await.unwrap();
        let refused = process.accept(&[(3, 3), (2, 9), (4, 4), (1, 8)]).await;
        assert!(
            matches!(refused, Err(AcceptError::OtherProduct(ids)) if ids == [2, 1].map(OrderId::from))
        );
        for order_id in [3, 4] {
            assert!(
                order_service::orders::db::get_order(&pool, order_id.into())
                    .await
                    .unwrap()
                    .is_none()
            );
        }
    });
}

#[test]
fn concurrent_requests_for_the_same_orders_accept_each_once() {
    run_test(async {
        let pool = create_control_database().await;
        let replicas = [
            Process::working(&pool, proceed(&pool)).await,
            Process::working(&pool, proceed(&pool)).await,
        ];
        let mut conflicts = 0;
        for round in 0..30 {
            let ids = round * 50..(round + 1) * 50;
            // Half of the requests have another product: one product wins per order.
            let requests = (0..8).map(|n| {
                let orders: Vec<(i32, i32)> = ids.clone().map(|id| (id, n % 2)).collect();
                let replica = &replicas[(n / 2 % 2) as usize];
                async move { (n % 2, replica.accept(&orders).await) }
            });
            let answers = join_all(requests).await;
            let won: Vec<i32> = answers
                .iter()
                .filter(|(_, answer)| answer.is_ok())
                .map(|(product, _)| *product)
                .collect();
            assert!(
                !won.is_empty() && won.iter().all(|product| *product == won[0]),
                "both products: {won:?}"
            );
            conflicts += answers.len() - won.len();
            for id in ids {
                assert_eq!(replicas[0].ended(id).await.product_id.get(), won[0]);
            }
        }
        assert!(conflicts > 0, "the requests never met");
        let attempts: Vec<(i32, i64)> =
            sqlx::query_as("SELECT attempts, count(*) FROM orders GROUP BY 1")
                .fetch_all(&pool)
                .await
                .unwrap();
        assert_eq!(
            HashMap::from([(1, 1500)]),
            attempts.into_iter().collect(),
            "one attempt at each"
        );
    });
}

#[test]
fn every_id_and_product_is_a_valid_one() {
    run_test(async {
        let pool = create_control_database().await;
        let process = Process::working(&pool, proceed(&pool)).await;
        let limits = [i32::MIN, -1, 0, 1, i32::MAX];
        let orders: Vec<(i32, i32)> =
            limits.iter().zip(limits.iter().rev()).map(|(id, product)| (*id, *product)).collect();
        process.accept(&orders).await.unwrap();
        for (order_id, product_id) in orders {
            let order = process.ended(order_id).await;
            assert_eq!(
                (order.product_id.get(), order.state),
                (product_id, OrderState::ProcessFinished)
            );
        }
    });
}
