//! Hazard: connections break at any moment, also between a commit and its answer. An accepted order
//! must end exactly once; a refused one may be stored (commit outcome unknown), and then ends, too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use order_service::orders::db::{OrderState, get_order};
use store::testing::{control_database_options, open_test_pool, run_test};

use crate::harness::{Process, data, proceed};

#[test]
fn every_accepted_order_ends_though_connections_are_cut() {
    run_test(async {
        let options = control_database_options().await;
        let name = options.get_database().unwrap().to_owned();
        let served = open_test_pool(options.clone()).await;
        let process = Arc::new(Process::working(&served, proceed(&served)).await);
        let cutter = open_test_pool(options.database("postgres")).await;
        let (stop, cuts) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let cutting = tokio::spawn({
            let (stop, cuts, name) = (stop.clone(), cuts.clone(), name.clone());
            async move {
                while !stop.load(Ordering::SeqCst) {
                    let cut: i64 = sqlx::query_scalar(
                        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                         WHERE datname = $1 AND state = 'active' AND random() < 0.3",
                    )
                    .bind(&name)
                    .fetch_one(&cutter)
                    .await
                    .unwrap();
                    cuts.fetch_add(cut as usize, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        });
        let (mut accepted, mut doubtful) = (Vec::new(), Vec::new());
        // Repeat until the fault has struck often enough on a machine of any speed.
        let enough = |batch| batch >= 300 && cuts.load(Ordering::SeqCst) > 20;
        for batch in (0..).take_while(|batch| !enough(*batch)) {
            let orders: Vec<(i32, i32)> =
                (batch * 10..(batch + 1) * 10).map(|id| (id, 1)).collect();
            match process.accept(&orders).await {
                Ok(_) => accepted.extend(orders),
                Err(_) => doubtful.extend(orders),
            }
        }
        stop.store(true, Ordering::SeqCst);
        cutting.await.unwrap();
        for (order_id, _) in &accepted {
            let order = process.ended(*order_id).await;
            assert_eq!(
                (order.state, order.data),
                (OrderState::ProcessFinished, Some(data(*order_id)))
            );
        }
        for (order_id, _) in &doubtful {
            if get_order(&process.pool, (*order_id).into()).await.unwrap().is_some() {
                assert_eq!(process.ended(*order_id).await.state, OrderState::ProcessFinished);
            }
        }
        println!(
            "{} accepted, {} in doubt, {cuts:?} connections cut",
            accepted.len(),
            doubtful.len()
        );
    });
}
