//! Hazard: two replicas receive different callbacks for one order concurrently, and both
//! report theirs as stored.

use std::time::Duration;

use faults::{Fault, FaultAction, start_database_proxy};
use futures::future::join_all;
use order_service::orders::db::{
    CALLBACK_CHANNEL, CallbackOutcome, OrderCallback, OrderData, get_order, list_orphan_callbacks,
    parse_callback_notification,
};
use store::testing::{control_database_options, create_control_database, open_test_pool, run_test};
use store::{PgNotification, PgNotificationHub};

use crate::harness::Process;

fn callback(order_id: i32, storage_id: i32) -> OrderCallback {
    let data = OrderData { storage_id: storage_id.into(), pickup_point_id: storage_id.into() };
    OrderCallback { order_id: order_id.into(), data }
}

#[test]
fn the_first_callback_wins_wherever_it_comes() {
    run_test(async {
        let pool = create_control_database().await;
        let (a, b) = (Process::hanging(&pool).await, Process::hanging(&pool).await);
        let ids: Vec<i32> = (0..200).collect();
        a.accept(&ids.iter().map(|id| (*id, 1)).collect::<Vec<_>>()).await.unwrap();
        let both = ids.iter().map(|id| async {
            let answers = tokio::join!(
                a.callbacks.store(callback(*id, 1)),
                b.callbacks.store(callback(*id, 2)),
                b.callbacks.store(callback(*id, 3)),
            );
            [answers.0.unwrap(), answers.1.unwrap(), answers.2.unwrap()]
        });
        let answers = join_all(both).await;
        let mut winners = [0; 3];
        for (id, answers) in ids.iter().zip(answers) {
            let stored: Vec<usize> =
                (0..3).filter(|n| answers[*n] == CallbackOutcome::Stored).collect();
            assert_eq!(stored.len(), 1, "order {id}: {answers:?}");
            winners[stored[0]] += 1;
            let data = get_order(&pool, (*id).into()).await.unwrap().unwrap().data.unwrap();
            assert_eq!(
                data.storage_id.get() as usize,
                stored[0] + 1,
                "what was told is what is stored"
            );
            let late = a.callbacks.store(callback(*id, 9)).await.unwrap();
            assert_eq!(late, CallbackOutcome::Duplicate);
            assert_eq!(get_order(&pool, (*id).into()).await.unwrap().unwrap().data.unwrap(), data);
        }
        println!("won: {winners:?}");
    });
}

#[test]
fn callbacks_nobody_asked_for_are_kept_within_bounds_and_never_applied() {
    run_test(async {
        let pool = create_control_database().await;
        let process = Process::hanging(&pool).await;
        assert_eq!(
            process.callbacks.store(callback(7, 1)).await.unwrap(),
            CallbackOutcome::Unknown
        );
        assert_eq!(
            process.callbacks.store(callback(7, 2)).await.unwrap(),
            CallbackOutcome::Unknown
        );
        let kept = list_orphan_callbacks(&pool).await.unwrap();
        assert_eq!(
            kept.iter().map(|o| (o.order_id.get(), o.storage_id.get())).collect::<Vec<_>>(),
            [(7, 2)]
        );
        process.accept(&[(7, 1)]).await.unwrap();
        assert_eq!(get_order(&pool, 7.into()).await.unwrap().unwrap().data, None);

        sqlx::query("UPDATE orphan_callbacks SET received_at = now() - interval '25 hours'")
            .execute(&pool)
            .await
            .unwrap();
        assert!(list_orphan_callbacks(&pool).await.unwrap().is_empty());
        let flood = (100..20_100).map(|id| process.callbacks.store(callback(id, 1)));
        for answer in join_all(flood).await {
            assert_eq!(answer.unwrap(), CallbackOutcome::Unknown);
        }
        let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM orphan_callbacks")
            .fetch_one(&pool)
            .await
            .unwrap();
        assert!((9_000..=10_000).contains(&kept), "{kept} kept");
    });
}

#[test]
fn a_callback_whose_commit_was_not_answered_reaches_the_replica_that_waits() {
    run_test(async {
        let options = control_database_options().await;
        let direct = open_test_pool(options.clone()).await;
        let waiting = Process::hanging(&direct).await;
        waiting.accept(&[(1, 1)]).await.unwrap();
        let (notifications, _) = PgNotificationHub::start(direct, vec![CALLBACK_CHANNEL]);
        let mut heard = notifications.subscribe();
        assert!(matches!(heard.recv().await.unwrap(), PgNotification::Missed), "it listens");

        let (faulty, proxy) = start_database_proxy(&options).await.unwrap();
        let other = Process::hanging(&open_test_pool(faulty).await).await;
        let fault = proxy.inject(Fault::at_statement("store_callbacks", FaultAction::CutReply));
        other.callbacks.store(callback(1, 5)).await.unwrap();
        assert_eq!(fault.counts().injected, 1);
        let told = async {
            loop {
                if let PgNotification::Received { payload, .. } = heard.recv().await.unwrap() {
                    return payload;
                }
            }
        };
        let told = tokio::time::timeout(Duration::from_secs(20), told).await.expect("it is told");
        let told = parse_callback_notification(&told).next().unwrap();
        assert_eq!((told.order_id.get(), told.stored.data.storage_id.get()), (1, 5));
    });
}
