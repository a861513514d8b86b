//! Hazard: an endless loop of events that start tasks that emit events.

use events::EventSettings;
use serde_json::json;
use store::testing::run_test;
use tokio_util::sync::CancellationToken;

use crate::harness::World;

#[test]
fn a_loop_is_stopped_with_its_chain_shown() {
    run_test(async {
        let settings = EventSettings { max_chain_depth: 5, ..EventSettings::default() };
        let world = World::on(store::testing::create_control_database().await, settings).await;
        for (name, on, emits) in [("there", "ping", "pong"), ("back", "pong", "ping")] {
            let action =
                json!({"task": "emit_event", "params": {"name": emits, "params": {"n": 1}}});
            world.config(json!({"name": name, "on": [{"event": on}], "action": action})).await;
        }
        let stop = CancellationToken::new();
        let _worker = world.worker(&[], &stop).await;
        world.event("ping", json!({"n": 1})).await;
        let last = world
            .until_some("the chain's end", || async {
                let beyond = "SELECT event_id FROM events WHERE depth > 5 AND name = 'pong' OR depth > 5 AND name = 'ping'";
                let id: Option<i64> = sqlx::query_scalar(beyond).fetch_optional(&world.pool).await.unwrap();
                id.map(|id| format!("{id:016x}"))
            })
            .await;
        let reason = world.reason(&last, "there").await;
        let chain = "stopped: the chain of events is 6 deep, more than 5 (a loop?): there -> back -> there -> back -> there -> back";
        assert_eq!(reason, chain);
        assert_eq!(world.story(&last).await["caused_by"].as_array().unwrap().len(), 6);
        let tasks = world.count("SELECT count(*) FROM tasks").await;
        assert_eq!(tasks, 6);
        for task in 1..=6 {
            world.until(task, "succeeded").await;
        }
        assert_eq!(world.count("SELECT count(*) FROM tasks").await, 6, "it goes on");
    });
}
