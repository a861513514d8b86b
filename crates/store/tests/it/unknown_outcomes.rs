//! Hazard: the answer of a commit is lost, the retry meets its earlier effect
//! and reports a refusal.

use faults::{Fault, FaultAction, start_database_proxy};
use futures::future::BoxFuture;
use sqlx::{Connection as _, PgConnection, PgPool};
use store::testing::{empty_database_options, open_test_pool, open_test_pool_with, run_test};
use store::{Error, run_refusable_statement};

/// Increments the counter if it has the expected value; returns `false` otherwise.
fn bumped(connection: &mut PgConnection, expected: i32) -> BoxFuture<'_, store::Result<bool>> {
    Box::pin(async move {
        let bumped =
            sqlx::query("UPDATE counter SET n = n + 1 WHERE n = $1 -- bump").bind(expected);
        Ok(bumped.execute(connection).await?.rows_affected() == 1)
    })
}

async fn bump_in_tx(pool: &PgPool, expected: i32) -> store::Result<bool> {
    store::transaction("bump", ())
        .run_refusable(
            pool,
            |done: &bool| !*done,
            move |connection, ()| bumped(connection, expected),
        )
        .await
}

async fn bump(pool: &PgPool, expected: i32) -> store::Result<bool> {
    run_refusable_statement(
        pool,
        "bump",
        |done: &bool| !*done,
        move |connection| bumped(connection, expected),
    )
    .await
}

async fn counter(options: &sqlx::postgres::PgConnectOptions) -> sqlx::PgConnection {
    let mut direct = sqlx::PgConnection::connect_with(options).await.unwrap();
    sqlx::query("CREATE TABLE counter AS SELECT 1 AS n").execute(&mut direct).await.unwrap();
    direct
}

#[test]
fn a_lost_commit_is_not_denied() {
    run_test(async {
        let options = empty_database_options().await;
        let mut direct = counter(&options).await;
        let (options, proxy) = start_database_proxy(&options).await.unwrap();
        let pool = open_test_pool(options).await;
        for (n, fault) in [
            (1, Fault::at_commit_of("bump", FaultAction::CutReply)),
            (2, Fault::at_statement("bump", FaultAction::CutReply)),
        ] {
            let fault = proxy.inject(fault);
            let outcome = if n == 1 { bump_in_tx(&pool, n).await } else { bump(&pool, n).await };
            assert!(matches!(outcome, Err(Error::OutcomeUnknown)), "{outcome:?}");
            assert_eq!(fault.counts().injected, 1);
            let now: i32 =
                sqlx::query_scalar("SELECT n FROM counter").fetch_one(&mut direct).await.unwrap();
            assert_eq!(now, n + 1, "it was done, once");
        }
    });
}

#[test]
fn what_was_never_committed_is_done_by_the_repetition_and_what_is_so_is_refused() {
    run_test(async {
        let options = empty_database_options().await;
        counter(&options).await;
        let (options, proxy) = start_database_proxy(&options).await.unwrap();
        let pool = open_test_pool(options).await;
        let before = proxy.inject(Fault::at_commit_of("bump", FaultAction::CutRequest));
        assert!(bump_in_tx(&pool, 1).await.unwrap());
        // No COMMIT was sent, so the refusal is correct.
        let inside = proxy.inject(Fault::at_statement("bump", FaultAction::CutReply));
        assert!(!bump_in_tx(&pool, 7).await.unwrap());
        assert_eq!((before.counts().injected, inside.counts().injected), (1, 1));
        assert!(!bump_in_tx(&pool, 7).await.unwrap());
    });
}

#[test]
fn a_transaction_that_the_server_ends_while_it_idles_is_repeated() {
    run_test(async {
        let options = empty_database_options().await;
        let pool = open_test_pool_with(
            options,
            vec![("idle_in_transaction_session_timeout", "50".to_owned())],
        )
        .await;
        let tries = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let tried = tries.clone();
        store::transaction("idle", ())
            .run(&pool, move |connection, ()| {
                let first = tried.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
                Box::pin(async move {
                    sqlx::query("SELECT 1").execute(&mut *connection).await?;
                    if first {
                        // A paused process: SQLSTATE 25P03.
                        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
                    }
                    sqlx::query("SELECT 2").execute(connection).await?;
                    Ok(())
                })
            })
            .await
            .unwrap();
        assert_eq!(tries.load(std::sync::atomic::Ordering::SeqCst), 2);
    });
}

#[test]
fn a_statement_that_was_prepared_for_another_table_is_prepared_anew() {
    run_test(async {
        let options = empty_database_options().await;
        let mut direct = counter(&options).await;
        let pool = open_test_pool(options).await;
        let read = || {
            store::transaction("read", ()).run(&pool, |connection, ()| {
                Box::pin(async move {
                    Ok(sqlx::query("SELECT * FROM counter").fetch_all(connection).await?.len())
                })
            })
        };
        read().await.unwrap();
        sqlx::query("ALTER TABLE counter ADD more text").execute(&mut direct).await.unwrap();
        assert_eq!(read().await.unwrap(), 1);
    });
}
