//! Hazard: old events are kept forever or young ones dropped; a new event has no partition.

use std::time::Duration;

use events::retention::maintain_events;
use serde_json::json;
use store::testing::run_test;

use crate::harness::{World, noop_on};

#[test]
fn old_weeks_go_with_their_keys_and_nothing_else() {
    run_test(async {
        let world = World::fresh().await;
        world.config(noop_on("c", "e")).await;
        let kept = world.event("e", json!({"n": 1})).await;
        old_week(&world, 1).await;
        let day = 24 * 3600;
        maintain_events(&world.pool, Duration::from_secs(90 * day)).await.unwrap();
        assert_eq!(world.count("SELECT count(*) FROM events").await, 2);
        maintain_events(&world.pool, Duration::from_secs(30 * day)).await.unwrap();
        let left = world.count("SELECT count(*) FROM events WHERE name = 'old'").await;
        assert_eq!((left, world.count("SELECT count(*) FROM event_keys").await), (0, 0));
        assert_eq!(world.started(&kept).await.len(), 1);
    });
}

/// A partition of eight weeks ago, with one event and `keys` keys.
async fn old_week(world: &World, keys: i32) {
    let statement = format!(
        "DO $$ DECLARE week timestamptz := date_trunc('week', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' - interval '8 weeks';
         BEGIN
             EXECUTE format('CREATE TABLE %I PARTITION OF events FOR VALUES FROM (%s) TO (%s)',
                 'events_' || to_char(week AT TIME ZONE 'UTC', 'YYYYMMDD'), event_id_at(week), event_id_at(week + interval '168 hours'));
             INSERT INTO events (event_id, name, params, author, time_created, config_version)
             VALUES (event_id_at(week) + 7, 'old', '{{}}', 'a', week, 1);
             INSERT INTO event_keys SELECT 'old' || n, event_id_at(week) + n, '' FROM generate_series(1, {keys}) AS n;
         END $$"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&world.pool).await.unwrap();
}

/// Deleting millions of keys in the transaction that drops their partition would block all access
/// to events.
#[test]
fn events_are_written_while_the_keys_of_a_dropped_week_are_forgotten() {
    run_test(async {
        let world = World::fresh().await;
        world.event("e", json!({})).await;
        old_week(&world, 20_000).await;
        // Another transaction locks one of the keys and blocks the deletion.
        let mut holding = world.pool.begin().await.unwrap();
        sqlx::query("SELECT FROM event_keys WHERE event_key = 'old15000' FOR UPDATE")
            .execute(&mut *holding)
            .await
            .unwrap();
        let (pool, day) = (world.pool.clone(), 24 * 3600);
        let maintaining =
            tokio::spawn(
                async move { maintain_events(&pool, Duration::from_secs(30 * day)).await },
            );
        let held_up = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
            AND wait_event_type = 'Lock' AND query LIKE '%forget_keys%'";
        while world.count(held_up).await == 0 {
            assert!(!maintaining.is_finished());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let writing = world.event("e", json!({}));
        tokio::time::timeout(Duration::from_secs(2), writing).await.unwrap();
        assert_eq!(world.count("SELECT count(*) FROM events WHERE name = 'old'").await, 0);
        let left = world.count("SELECT count(*) FROM event_keys WHERE event_key LIKE 'old%'").await;
        assert!((1..20_000).contains(&left), "what was done stays done: {left}");
        // Interrupted; the next pass deletes the rest.
        maintaining.abort();
        holding.rollback().await.unwrap();
        maintain_events(&world.pool, Duration::from_secs(30 * day)).await.unwrap();
        assert_eq!(
            world.count("SELECT count(*) FROM event_keys WHERE event_key LIKE 'old%'").await,
            0
        );
    });
}

#[test]
fn a_week_that_only_a_clock_takes_for_old_is_kept() {
    run_test(async {
        let world = World::fresh().await;
        old_week(&world, 1).await;
        // The newest event is eight weeks old, as if the clock were set ahead.
        maintain_events(&world.pool, Duration::from_secs(30 * 24 * 3600)).await.unwrap();
        assert_eq!(world.count("SELECT count(*) FROM events WHERE name = 'old'").await, 1);
    });
}

#[test]
fn a_week_that_is_missing_is_made_when_it_is_needed() {
    run_test(async {
        let world = World::fresh().await;
        let weeks: Vec<String> = sqlx::query_scalar(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'events'::regclass",
        )
        .fetch_all(&world.pool)
        .await
        .unwrap();
        for week in weeks {
            sqlx::query(sqlx::AssertSqlSafe(format!("DROP TABLE {week}")))
                .execute(&world.pool)
                .await
                .unwrap();
        }
        world.event("e", json!({})).await;
        assert_eq!(world.count("SELECT count(*) FROM events").await, 1);
    });
}
