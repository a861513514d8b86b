//! Hazard: pool deadlock, when as many tasks as a pool has connections hold one each and wait
//! for a second one.

use std::time::{Duration, Instant};

use store::PgPool;
use store::testing::{create_control_database, run_counting_panics, run_test};

async fn nested(outer: &PgPool, inner: &PgPool) -> store::Result<i32> {
    let inner = inner.clone();
    store::transaction("outer", ())
        .run(outer, move |connection, ()| {
            let inner = inner.clone();
            Box::pin(async move {
                sqlx::query("SELECT 1").execute(connection).await?;
                store::run_statement(&inner, "inner", |connection| {
                    Box::pin(async move {
                        Ok(sqlx::query_scalar("SELECT 2").fetch_one(connection).await?)
                    })
                })
                .await
            })
        })
        .await
}

#[test]
fn whoever_waits_for_a_second_connection_of_a_pool_is_found() {
    let panicked = run_counting_panics(async {
        let pool = create_control_database().await;
        assert!(matches!(nested(&pool, &pool).await, Err(store::Error::Abandoned)));
    });
    assert_eq!(panicked, 1);
}

#[test]
fn many_that_ask_within_their_transactions_do_not_wait_for_one_another() {
    run_test(async {
        let pool = create_control_database().await;
        let within = store::reserve_pool(&pool, "within", 1);
        let began = Instant::now();
        let many = (0..60).map(|_| nested(&pool, &within));
        assert_eq!(futures::future::try_join_all(many).await.unwrap(), vec![2; 60]);
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    });
}
