//! Hazard: a requested aggregation pass reports success although it is incomplete, or never ends
//! because another process has the duty.

use std::time::Duration;

use ledger::SequenceNumber;
use ledger::aggregates::{Aggregator, run_aggregation_pass};
use serde_json::json;
use store::PgPool;
use store::testing::run_test;
use tokio_util::sync::CancellationToken;

use crate::harness::Served;

fn aggregator(served: &Served) -> Aggregator {
    let shard = &served.ledger.shards.all()[0];
    let (types, wake) = (served.ledger.types.clone(), served.ledger.sequence_notifiers[0].clone());
    Aggregator { shard: shard.name.clone(), pool: shard.pool.clone(), types, notifier: wake }
}

async fn write(served: &Served, id: &str) {
    let storage = crate::partitions::storage(served);
    let event = json!({"type": "storage_outflow", "event_id": id, "dt": "2024-02-29T12:00:00Z", "debit": "1",
        "attributes": {"storage_id": storage}});
    assert_eq!(served.write(&[event]).await.1, ["created"]);
}

async fn aggregated_seq(served: &Served) -> i64 {
    served.get("/v1/shards").await.1["shards"][0]["aggregated_seq"].as_i64().unwrap()
}

#[test]
fn a_pass_aggregates_by_itself_when_nobody_else_does() {
    run_test(async {
        let served = Served::fresh().await;
        assert_eq!(
            run_aggregation_pass(aggregator(&served)).await.unwrap(),
            SequenceNumber::ZERO,
            "there is nothing to do"
        );
        let stop = CancellationToken::new();
        let mut sequencing = served.number(&stop);
        for n in 1..=3 {
            write(&served, &format!("e{n}")).await;
            served.numbered(n).await;
            assert_eq!(aggregated_seq(&served).await, n - 1);
            assert_eq!(run_aggregation_pass(aggregator(&served)).await.unwrap().get(), n);
            assert_eq!(aggregated_seq(&served).await, n);
        }
        stop.cancel();
        while sequencing.join_next().await.is_some() {}
    });
}

#[test]
fn a_pass_waits_for_the_aggregator_that_is_on_duty() {
    run_test(async {
        let served = Served::fresh().await;
        let stop = CancellationToken::new();
        let mut duties = served.aggregate(&stop);
        for n in 1..=3 {
            write(&served, &format!("e{n}")).await;
            served.numbered(n).await;
            assert_eq!(run_aggregation_pass(aggregator(&served)).await.unwrap().get(), n);
            assert_eq!(aggregated_seq(&served).await, n);
        }
        stop.cancel();
        while duties.join_next().await.is_some() {}
    });
}

#[test]
fn numbers_whose_events_are_not_found_are_not_passed_over() {
    run_test(async {
        let served = Served::fresh().await;
        let stop = CancellationToken::new();
        let mut sequencing = served.number(&stop);
        for n in 1..=3 {
            write(&served, &format!("e{n}")).await;
            served.numbered(n).await;
        }
        let pool = served.ledger.shards.all()[0].pool.clone();
        sqlx::raw_sql(
            "CREATE TABLE hidden (LIKE events);
             WITH gone AS (DELETE FROM events WHERE event_id = 'e2' RETURNING *) INSERT INTO hidden SELECT * FROM gone",
        )
        .execute(&pool)
        .await
        .unwrap();
        let passing = tokio::spawn(run_aggregation_pass(aggregator(&served)));
        // A connection that cannot find a numbered event is closed.
        let given_up =
            "SELECT sessions_killed > 0 FROM pg_stat_database WHERE datname = current_database()";
        while !sqlx::query_scalar::<_, bool>(given_up).fetch_one(&pool).await.unwrap_or(false) {
            assert!(!passing.is_finished(), "passed over");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(aggregated_seq(&served).await, 0);
        sqlx::query("INSERT INTO events SELECT * FROM hidden").execute(&pool).await.unwrap();
        assert_eq!(passing.await.unwrap().unwrap().get(), 3);
        let storage = crate::partitions::storage(&served);
        let path =
            format!("/v1/balances/storage_outflow?storage_id={storage}&at=2035-01-01T00:00:00Z");
        assert_eq!(served.get(&path).await.1["groups"][0]["debit"], "3");
        stop.cancel();
        while sequencing.join_next().await.is_some() {}
    });
}

/// Adds one event of 1, numbered after `from`, to a grouping's sums, as the holder of this epoch.
async fn fold(pool: &PgPool, epoch: i64, from: i64) -> Option<bool> {
    sqlx::query_scalar(
        "SELECT fold_aggregates((SELECT lease_id FROM leases), $1, ARRAY[g], $2, $2 + 1, '{}', '{}', '{}',
                ARRAY[1]::bigint[], ARRAY[g], ARRAY['y'], ARRAY['2024-01-01']::timestamptz[], ARRAY[1]::bigint[],
                ARRAY['1'], ARRAY['0'], ARRAY[1]::bigint[])
         FROM (SELECT grouping_id FROM groupings) AS t (g)",
    )
    .bind(epoch)
    .bind(from)
    .fetch_one(pool)
    .await
    .unwrap()
}

/// A shard with one grouping without sums, and a lease at epoch 7.
async fn nothing_folded() -> PgPool {
    let pool = store::testing::create_shard_database().await;
    sqlx::raw_sql(
        "INSERT INTO leases (class, name, owner, epoch, expires_at)
         VALUES ('test', 'aggregator', gen_random_uuid(), 7, now() + interval '1 hour');
         INSERT INTO groupings (type, attributes, interval, aggregated_seq) VALUES ('storage_outflow', '', 'day', 0)",
    )
    .execute(&pool)
    .await
    .unwrap();
    pool
}

async fn counted(pool: &PgPool) -> i64 {
    let events = "SELECT coalesce(sum(events), 0)::bigint FROM aggregates";
    sqlx::query_scalar(events).fetch_one(pool).await.unwrap()
}

#[test]
fn a_zombie_folds_nothing() {
    run_test(async {
        let pool = nothing_folded().await;
        assert_eq!(fold(&pool, 6, 0).await, None);
        assert_eq!(counted(&pool).await, 0);
    });
}

#[test]
fn what_was_folded_is_not_folded_again() {
    run_test(async {
        let pool = nothing_folded().await;
        assert_eq!(fold(&pool, 7, 0).await, Some(true));
        assert_eq!(fold(&pool, 7, 0).await, Some(false), "repeated, as after a lost answer");
        assert_eq!(counted(&pool).await, 1);
    });
}
