//! Hazard: a reader's snapshot predates a drop and its read follows it: it finds neither the events
//! nor their closing sums.

use std::time::Duration;

use sqlx::Connection as _;
use store::testing::run_test;

use super::{Running, event, shard, storage};

#[test]
fn a_reader_who_began_before_a_drop_sees_the_whole() {
    run_test(async {
        let running = Running::fresh().await;
        let (served, storage) = (running.served.clone(), storage(&running.served));
        let pool = shard(&served).pool;
        for (id, dt) in [("old", "2015-01-01T00:00:00Z"), ("new", "2026-01-01T00:00:00Z")] {
            served.write(&[event(id, storage, dt, 1, "1")]).await;
        }
        running.settled().await;
        // As if aggregation lagged so far that raw events are read, together with the closing sums.
        sqlx::query("UPDATE sequence SET last_seq = last_seq + 1000000")
            .execute(&pool)
            .await
            .unwrap();

        let mut dropping = pool.acquire().await.unwrap();
        let mut dropping = dropping.begin().await.unwrap();
        sqlx::query("LOCK TABLE ONLY events IN ACCESS EXCLUSIVE MODE")
            .execute(&mut *dropping)
            .await
            .unwrap();
        let reading = tokio::spawn({
            let served = served.clone();
            let path = format!(
                "/v1/balances/storage_outflow?storage_id={storage}&at=2035-01-01T00:00:00Z"
            );
            async move { served.get(&path).await.1["groups"][0]["debit"].clone() }
        });
        let held_up =
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
            AND wait_event_type = 'Lock' AND query LIKE '%account_totals%')";
        while !sqlx::query_scalar::<_, bool>(held_up).fetch_one(&pool).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let reason: Option<String> = sqlx::query_scalar(
            "SELECT drop_event_month('2015-01-01T00:00:00Z', array_agg(type), array_agg(attributes), array_agg(interval), 1)
             FROM groupings",
        )
        .fetch_one(&mut *dropping)
        .await
        .unwrap();
        assert_eq!(reason, None, "it is gone");
        dropping.commit().await.unwrap();
        assert_eq!(reading.await.unwrap(), "2");
        running.stop().await;
    });
}

/// A check whose snapshot predates a drop would miss the events and their closing sums.
#[test]
fn a_check_that_begins_while_a_month_is_dropped_finds_no_difference() {
    run_test(async {
        let running = Running::fresh().await;
        let (served, storage) = (running.served.clone(), storage(&running.served));
        let pool = shard(&served).pool;
        for (id, dt) in [("old", "2015-01-01T00:00:00Z"), ("new", "2026-01-01T00:00:00Z")] {
            served.write(&[event(id, storage, dt, 1, "1")]).await;
        }
        running.settled().await;
        let mut dropping = pool.acquire().await.unwrap();
        let mut dropping = dropping.begin().await.unwrap();
        sqlx::query("LOCK TABLE ONLY events IN ACCESS EXCLUSIVE MODE")
            .execute(&mut *dropping)
            .await
            .unwrap();
        let (shards, types) = (served.ledger.shards.clone(), served.ledger.types.clone());
        let checking =
            tokio::spawn(async move { ledger::check::check_shards(&shards, &types, |_| {}).await });
        let held_up =
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
            AND wait_event_type = 'Lock' AND query LIKE '-- check_%')";
        while !sqlx::query_scalar::<_, bool>(held_up).fetch_one(&pool).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let reason: Option<String> = sqlx::query_scalar(
            "SELECT drop_event_month('2015-01-01T00:00:00Z', array_agg(type), array_agg(attributes), array_agg(interval), 1)
             FROM groupings",
        )
        .fetch_one(&mut *dropping)
        .await
        .unwrap();
        assert_eq!(reason, None, "it is gone");
        dropping.commit().await.unwrap();
        let report = checking.await.unwrap().unwrap();
        assert_eq!(report.difference_count, 0, "{:?}", report.differences);
        running.stop().await;
    });
}
