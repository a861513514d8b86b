//! Hazard: an idle queue keeps its database busy.

use std::time::Duration;

use store::LeaseOptions;
use store::testing::{control_database_options, open_test_pool, run_test};

use crate::process;

#[test]
fn at_most_one_query_a_second() {
    run_test(async {
        let options = control_database_options().await;
        let name = options.get_database().unwrap().to_owned();
        let watched = open_test_pool(options.clone()).await;
        let observer = open_test_pool(options.database("postgres")).await;
        // Autovacuum transactions would be counted, too.
        sqlx::query("ALTER SYSTEM SET autovacuum = off").execute(&observer).await.unwrap();
        sqlx::query("SELECT pg_reload_conf()").execute(&observer).await.unwrap();
        let count = || async {
            sqlx::query_scalar::<_, i64>(
                "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = $1",
            )
            .bind(&name)
            .fetch_one(&observer)
            .await
            .unwrap()
        };
        let jobs = process(&watched, LeaseOptions::default()).await;
        assert!(jobs.claim(10).await.unwrap().is_empty());
        // The usual claim loop of a queue's user.
        let claimer = tokio::spawn(async move {
            loop {
                jobs.wait_until_due().await;
                jobs.claim(10).await.unwrap();
            }
        });
        // Idle sessions report statistics up to ten seconds late: wait until
        // the start-up is included.
        tokio::time::sleep(Duration::from_secs(12)).await;
        let before = count().await;
        tokio::time::sleep(Duration::from_secs(8)).await;
        let queries = count().await - before;
        claimer.abort();
        // Claims and lease renewals run every two seconds each: 8 transactions, plus late reports.
        assert!((1..=16).contains(&queries), "{queries} queries in 8 idle seconds");
    });
}
