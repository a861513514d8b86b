//! Hazard: a statement's name is cut off where an operator looks for it, or an argument that cannot be sent is dropped.

use std::time::Duration;

use sqlx::{Encode, Postgres, Type};
use store::testing::{create_control_database, run_test};
use store::{Error, PgOperation, statement, transaction};

const OWN_QUERY: &str = "SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()";

#[test]
fn the_name_stands_in_front_on_a_pool_and_in_a_transaction() {
    run_test(async {
        let pool = create_control_database().await;
        let named = PgOperation::named("look_at_itself").with_timeout(Duration::from_secs(20));
        let shown: String = statement(named, OWN_QUERY).fetch_value(&pool).await.unwrap();
        assert_eq!(shown, format!("-- look_at_itself\n{OWN_QUERY}"));
        let shown: Vec<String> = transaction("outer", OWN_QUERY)
            .run(&pool, |connection, sql| {
                Box::pin(statement("inner", *sql).fetch_values(connection))
            })
            .await
            .unwrap();
        assert_eq!(shown, [format!("-- inner\n{OWN_QUERY}")]);
    });
}

#[test]
fn a_transaction_that_fails_leaves_nothing() {
    run_test(async {
        let pool = create_control_database().await;
        let insert = "INSERT INTO orphan_callbacks (order_id, storage_id, pickup_point_id)
             SELECT id, 1, 1 FROM unnest($1::int[]) AS id";
        let failed =
            transaction("insert_twice", vec![1, 2, 3]).run(&pool, move |connection, ids| {
                Box::pin(async move {
                    let inserted =
                        statement("insert", insert).bind(ids).execute(&mut *connection).await?;
                    assert_eq!(inserted, 3);
                    statement("insert_again", insert).bind(ids).execute(connection).await
                })
            });
        assert!(matches!(failed.await, Err(Error::UniqueViolation(_))));
        let count: i64 = statement("count_rows", "SELECT count(*) FROM orphan_callbacks")
            .fetch_value(&pool)
            .await
            .unwrap();
        assert_eq!(count, 0);
    });
}

/// A value that no message can hold.
struct TooLarge;

impl Type<Postgres> for TooLarge {
    fn type_info() -> sqlx::postgres::PgTypeInfo {
        <i32 as Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for TooLarge {
    fn encode_by_ref(
        &self,
        _buffer: &mut sqlx::postgres::PgArgumentBuffer,
    ) -> Result<sqlx::encode::IsNull, sqlx::error::BoxDynError> {
        Err("too large to be sent".into())
    }
}

#[test]
fn an_argument_that_cannot_be_sent_is_an_error_and_nothing_is_executed() {
    run_test(async {
        let pool = create_control_database().await;
        let sent =
            statement("send", "SELECT $1 + $2").bind(TooLarge).bind(1).fetch_value::<i32>(&pool);
        let error = sent.await.unwrap_err();
        assert!(error.to_string().contains("too large to be sent"), "{error}");
    });
}
