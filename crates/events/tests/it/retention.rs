//! Hazard: old events are kept for ever, or young ones dropped; there is no partition for a new one.

use std::time::Duration;

use events::retention::maintain;
use serde_json::json;
use store::testing::run;

use crate::harness::{World, noop_on};

#[test]
fn old_weeks_go_with_their_keys_and_nothing_else() {
    run(async {
        let world = World::fresh().await;
        world.config(noop_on("c", "e")).await;
        let kept = world.event("e", json!({"n": 1})).await;
        sqlx::raw_sql(
            "DO $$ DECLARE week timestamptz := date_trunc('week', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' - interval '8 weeks';
             BEGIN
                 EXECUTE format('CREATE TABLE %I PARTITION OF events FOR VALUES FROM (%s) TO (%s)',
                     'events_' || to_char(week AT TIME ZONE 'UTC', 'YYYYMMDD'), event_id_at(week), event_id_at(week + interval '168 hours'));
                 INSERT INTO events (event_id, name, params, author, time_created, config_version)
                 VALUES (event_id_at(week) + 7, 'old', '{}', 'a', week, 1);
                 INSERT INTO event_keys VALUES ('old', event_id_at(week) + 7, '');
             END $$",
        )
        .execute(&world.pool)
        .await
        .unwrap();
        let day = 24 * 3600;
        maintain(&world.pool, Duration::from_secs(90 * day)).await.unwrap();
        assert_eq!(world.count("SELECT count(*) FROM events").await, 2);
        maintain(&world.pool, Duration::from_secs(30 * day)).await.unwrap();
        let left = world.count("SELECT count(*) FROM events WHERE name = 'old'").await;
        assert_eq!((left, world.count("SELECT count(*) FROM event_keys").await), (0, 0));
        assert_eq!(world.started(&kept).await.len(), 1);
    });
}

#[test]
fn a_week_that_is_missing_is_made_when_it_is_needed() {
    run(async {
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
