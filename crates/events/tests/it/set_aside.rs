//! Hazard: an event is set aside because the database failed, although its rendering is fine; or it
//! is not written because no note can be taken. (Events that crash the process are tested in
//! `write/start.rs`.)

use std::time::{Duration, Instant};

use events::{EventCause, NewEvent};
use serde_json::{Value, json};
use store::testing::run_test;

use crate::harness::{World, noop_on};

fn event(name: &str, n: i64) -> NewEvent {
    let params = json!({"n": n}).as_object().unwrap().clone();
    NewEvent {
        name: name.to_owned(),
        params,
        author: "me".to_owned(),
        key: None,
        cause: EventCause::default(),
    }
}

#[test]
fn an_error_of_the_database_is_no_end_of_the_process() {
    run_test(async {
        let world = World::fresh().await;
        world.config(noop_on("c", "e")).await;
        for _ in 0..10 {
            let mut tx = world.pool.begin().await.unwrap();
            sqlx::query("SET LOCAL ROLE nobody_who_is_known").execute(&mut *tx).await.unwrap_err();
            world.events.write_in_tx(&mut tx, vec![event("e", 1)]).await.unwrap_err();
        }
        for _ in 0..10 {
            let mut tx = world.pool.begin().await.unwrap();
            world.events.write_in_tx(&mut tx, vec![event("e", 1)]).await.unwrap();
            tx.rollback().await.unwrap();
        }
        let mut tx = world.pool.begin().await.unwrap();
        let ids = world.events.write_in_tx(&mut tx, vec![event("e", 1)]).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(world.started(&ids[0].0.to_string()).await.len(), 1);
        let left: Value = sqlx::query_scalar("SELECT to_jsonb(count(*)) FROM event_renderings")
            .fetch_one(&world.pool)
            .await
            .unwrap();
        assert_eq!(left, json!(0));
    });
}

#[test]
fn an_event_of_which_no_note_can_be_taken_is_written_all_the_same() {
    run_test(async {
        let world = World::fresh().await;
        world.config(noop_on("c", "e")).await;
        let mut holder = world.pool.begin().await.unwrap();
        sqlx::raw_sql(
            "SET LOCAL idle_in_transaction_session_timeout = 0; LOCK TABLE event_renderings",
        )
        .execute(&mut *holder)
        .await
        .unwrap();
        let began = Instant::now();
        let id = world.event("e", json!({})).await;
        // Two note timeouts, begin and end; the server ends a transaction that is idle for 5 s.
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert_eq!(world.started(&id).await.len(), 1);
        holder.rollback().await.unwrap();
    });
}
