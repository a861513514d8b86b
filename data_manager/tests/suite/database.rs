//! Hazard: assignments change after a restart, with another seed, or with another data manager.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use data_manager::{DataManagerSettings, DataManagerStartError, RunningDataManager, Seed};
use futures::future::join_all;
use store::testing::{empty_database_options, run_test};
use store::{MigrationSet, PgConnectOptions};
use tonic::Code;

use crate::asking::{Manager, settings};
use crate::order_service::OrderService;

async fn database() -> PgConnectOptions {
    let options = empty_database_options().await;
    let mut connection =
        store::testing::open_test_pool(options.clone()).await.acquire().await.unwrap();
    MigrationSet::data_manager().apply_pending(&mut connection).await.unwrap();
    options
}

fn on(database: &PgConnectOptions, service: &OrderService, seed: u64) -> DataManagerSettings {
    DataManagerSettings {
        database: Some(database.clone()),
        seed: Seed(seed),
        ..settings(&[service])
    }
}

fn told(service: &OrderService) -> BTreeMap<i32, (i32, i32)> {
    service.received().iter().map(|callback| (callback.order_id, callback.data)).collect()
}

#[test]
fn a_restart_with_another_seed_changes_nothing() {
    run_test(async {
        let (database, service) = (database().await, OrderService::accepting().await);
        let first = Manager::start(on(&database, &service, 1)).await;
        first.ask(i32::MIN).await.unwrap();
        assert!(first.ask_all(0..1500).await.is_empty());
        let before = told(&service);
        first.manager.stop().await;

        let second = Manager::start(on(&database, &service, 2)).await;
        assert_eq!((second.given().await, before.len()), (before.clone(), 1501));
        second.ask(i32::MIN).await.unwrap();
        assert!(second.ask_all(0..1500).await.is_empty());
        assert_eq!((told(&service), service.received().len()), (before, 3002));
    });
}

#[test]
fn questions_that_come_together_are_all_answered_with_what_is_stored() {
    run_test(async {
        let (database, service) = (database().await, OrderService::accepting().await);
        // Two data managers with different seeds race for the same orders.
        let one = Manager::start(on(&database, &service, 1)).await;
        let other = Manager::start(on(&database, &service, 2)).await;
        let single =
            join_all((0..300).map(|n| if n % 2 == 0 { one.ask(n / 4) } else { other.ask(n / 4) }));
        let batches = join_all([one.ask_all(0..500), other.ask_all(0..500)]);
        let (answers, errors) = tokio::join!(single, batches);
        assert!(answers.iter().all(Result::is_ok) && errors.iter().all(Vec::is_empty));
        let given = one.given().await;
        assert_eq!((given.len(), service.received().len()), (500, 1300));
        for callback in service.received() {
            assert_eq!(callback.data, given[&callback.order_id], "told otherwise than stored");
        }
    });
}

#[test]
fn once_outlives_a_restart() {
    run_test(async {
        let (database, service) = (database().await, OrderService::accepting().await);
        let once = || DataManagerSettings { once: true, ..on(&database, &service, 1) };
        let first = Manager::start(once()).await;
        first.ask(1).await.unwrap();
        assert!(first.ask_all(2..10).await.is_empty());
        first.manager.stop().await;

        let second = Manager::start(once()).await;
        assert_eq!(second.refusal(1).await.0, Code::Unknown);
        assert_eq!(second.ask_all(2..11).await.len(), 8);
        assert_eq!((service.received().len(), service.count(10)), (10, 1));
    });
}

#[test]
fn a_database_that_hangs_fails_questions_in_time_and_they_work_again_after_it() {
    run_test(async {
        let (database, service) = (database().await, OrderService::accepting().await);
        let manager = Manager::start(on(&database, &service, 1)).await;
        let pool = store::testing::open_test_pool(database).await;
        let mut lock = pool.begin().await.unwrap();
        sqlx::query("LOCK TABLE given").execute(&mut *lock).await.unwrap();
        let started = Instant::now();
        assert_eq!(manager.refusal(1).await.0, Code::Unavailable);
        assert!(started.elapsed() < Duration::from_secs(2) && service.received().is_empty());
        lock.rollback().await.unwrap();
        manager.ask(1).await.unwrap();
        assert_eq!(told(&service), manager.given().await);
    });
}

#[test]
fn an_empty_database_is_set_up_and_one_of_another_version_is_refused() {
    run_test(async {
        let service = OrderService::accepting().await;
        let options = empty_database_options().await;
        RunningDataManager::start(on(&options, &service, 1)).await.unwrap().stop().await;
        let pool = store::testing::open_test_pool(options.clone()).await;
        sqlx::query("UPDATE _sqlx_migrations SET version = 0").execute(&pool).await.unwrap();
        let error = RunningDataManager::start(on(&options, &service, 1)).await.err().unwrap();
        assert!(matches!(error, DataManagerStartError::SchemaTooOld { found: 0, .. }));
        assert!(error.to_string().contains("`data_manager migrate`"), "{error}");
    });
}
