//! Hazard: a matched event starts two tasks or none; a config change takes effect too late.

use std::collections::HashSet;

use serde_json::json;
use store::testing::run_test;

use crate::harness::{World, noop_on};

#[test]
fn events_of_many_at_once_start_exactly_one_task_for_each_config() {
    run_test(async {
        let one = World::fresh().await;
        for name in ["a", "b", "c"] {
            one.config(noop_on(name, "e")).await;
        }
        let two = World::on(one.pool.clone(), events::EventSettings::default()).await;
        let sending: Vec<_> = (0..16)
            .map(|client| {
                let world = if client % 2 == 0 { one.clone() } else { two.clone() };
                tokio::spawn(async move {
                    let mut ids = Vec::new();
                    for n in 0..10 {
                        ids.push(world.event("e", json!({"n": n})).await);
                    }
                    ids
                })
            })
            .collect();
        let mut ids = HashSet::new();
        for sent in sending {
            ids.extend(sent.await.unwrap());
        }
        assert_eq!(ids.len(), 160);
        let pairs = one.count("SELECT count(DISTINCT (event_id, action_config)) FROM tasks").await;
        let jobs = one.count("SELECT count(*) FROM jobs WHERE queue = 'actions'").await;
        assert_eq!((one.count("SELECT count(*) FROM tasks").await, pairs, jobs), (480, 480, 480));
    });
}

#[test]
fn a_change_of_configs_that_was_answered_before_an_event_holds_for_it_at_every_replica() {
    run_test(async {
        let one = World::fresh().await;
        let two = World::on(one.pool.clone(), events::EventSettings::default()).await;
        for round in 0..20 {
            let enabled = round % 2 == 0;
            let mut config = noop_on("c", "e");
            config["enabled"] = enabled.into();
            let (status, told) = one.send("PUT", "/api/v1/action_configs/c", &config).await;
            assert!(matches!(status, 200 | 201), "{told}");
            let event = two.event("e", json!({"round": round})).await;
            assert_eq!(two.started(&event).await.len(), usize::from(enabled), "round {round}");
            if !enabled {
                assert_eq!(two.reason(&event, "c").await, "disabled");
            }
        }
        assert_eq!(one.send("DELETE", "/api/v1/action_configs/c", &json!({})).await.0, 204);
        let event = two.event("e", json!({})).await;
        let story = two.story(&event).await;
        assert_eq!((&story["produced_tasks"], &story["not_fired"]), (&json!([]), &json!([])));
    });
}

#[test]
fn a_repeated_transaction_changes_nothing() {
    run_test(async {
        let world = World::fresh().await;
        world.config(noop_on("c", "e")).await;
        let event = world.event("e", json!({})).await;
        // The unique constraint that guarantees at most one task.
        let again = sqlx::query(
            "INSERT INTO tasks (task_type, params, action_config, event_id)
             SELECT task_type, params, action_config, event_id FROM tasks",
        );
        let refused = again.execute(&world.pool).await.unwrap_err();
        assert!(refused.to_string().contains("tasks_by_event"), "{refused}");
        assert_eq!(world.started(&event).await.len(), 1);
    });
}

#[test]
fn ids_that_a_crash_makes_the_database_give_again_lose_no_event() {
    run_test(async {
        let world = World::fresh().await;
        world.config(noop_on("c", "matched")).await;
        let mut ids = HashSet::from([world.event("plain", json!({})).await]);
        for round in 0..6 {
            // Simulates a crash that lost the sequence's last steps.
            sqlx::query("SELECT setval('event_ids', last_value - 5) FROM event_ids")
                .execute(&world.pool)
                .await
                .unwrap();
            let name = if round % 2 == 0 { "plain" } else { "matched" };
            let event = |n: i64| json!({"name": name, "params": {"n": n}, "event_key": (n == 2).then(|| format!("{round}"))});
            let (status, answer) =
                world.send("POST", "/api/v1/events", &json!([event(0), event(1), event(2)])).await;
            assert_eq!(status, 201, "{answer}");
            ids.extend(
                answer.as_array().unwrap().iter().map(|id| id["_id"].as_str().unwrap().to_owned()),
            );
            ids.insert(world.event(name, json!({"n": 3})).await);
        }
        assert_eq!(ids.len(), 25);
        let (events, tasks) =
            ("SELECT count(*) FROM events", "SELECT count(DISTINCT event_id) FROM tasks");
        assert_eq!((world.count(events).await, world.count(tasks).await), (25, 12));
    });
}
