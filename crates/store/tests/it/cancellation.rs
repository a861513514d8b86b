//! Hazard: a client disconnects during a transaction. Dropping the future could return a connection
//! with an open transaction to the pool, whose later writes would be acknowledged and lost.

use std::time::Duration;

use store::PgPool;
use store::testing::{create_control_database, run_test};

async fn write(pool: PgPool, number: i32) -> store::Result<()> {
    store::transaction("write", ())
        .run(&pool, move |connection, ()| {
            Box::pin(async move {
                sqlx::query("INSERT INTO written VALUES ($1)")
                    .bind(number)
                    .execute(&mut *connection)
                    .await?;
                sqlx::query("SELECT pg_sleep(0.001)").execute(connection).await?;
                Ok(())
            })
        })
        .await
}

#[test]
fn an_abandoned_transaction_ends_and_no_later_write_is_lost() {
    run_test(async {
        let pool = create_control_database().await;
        sqlx::query("CREATE TABLE written (number int PRIMARY KEY)").execute(&pool).await.unwrap();
        let mut abandoned = 0;
        for number in 0..400 {
            let patience = Duration::from_micros(u64::from(rand::random::<u16>()) % 3000);
            // Dropped in flight after the timeout, like the future of a disconnected client.
            match tokio::time::timeout(patience, write(pool.clone(), number)).await {
                Ok(written) => written.unwrap(),
                Err(_) => abandoned += 1,
            }
        }
        assert!(abandoned > 0, "the fault never bit");
        for number in 400..450 {
            write(pool.clone(), number).await.unwrap();
        }
        let observer = pool.clone();
        let stuck: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND state LIKE 'idle in transaction%' AND pid <> pg_backend_pid()",
        )
        .fetch_one(&observer)
        .await
        .unwrap();
        assert_eq!(stuck, 0);
        // All abandoned writes complete: each runs in a separate task.
        loop {
            let written: i64 =
                sqlx::query_scalar("SELECT count(*) FROM written").fetch_one(&pool).await.unwrap();
            if written == 450 {
                break;
            }
            tokio::task::yield_now().await;
        }
    });
}
