//! Hazard: a story has no reason for a task that was not started, or it changes when configs
//! change.

use serde_json::{Value, json};
use store::testing::run_test;
use tokio_util::sync::CancellationToken;

use crate::harness::{World, noop_on};

#[test]
fn the_reason_of_every_config_that_did_not_fire() {
    run_test(async {
        let world = World::fresh().await;
        let with = |name: &str, params: Value, action: Value| json!({"name": name, "on": [{"event": "e", "params": params}], "action": action});
        let noop = || json!({"task": "noop"});
        world.config(with("fires", json!({"s": "x"}), noop())).await;
        world.config(with("other-value", json!({"s": "y"}), noop())).await;
        world.config(with("missing", json!({"t": 1}), noop())).await;
        world.config(with("list", json!({"s": {"in": ["y", "z"]}}), noop())).await;
        world.config(with("pattern", json!({"s": {"regex": "^y"}}), noop())).await;
        world.config(with("there", json!({"s": {"exists": false}}), noop())).await;
        world.config(with("nested", json!({"o__k": 2}), noop())).await;
        world
            .config(with(
                "template",
                json!({}),
                json!({"task": "noop", "params": {"note": "{{ event.params.nope }}"}}),
            ))
            .await;
        world
            .config(with(
                "wrong",
                json!({}),
                json!({"task": "noop", "params": {"seconds": "{{ event.params.s }}"}}),
            ))
            .await;
        let mut off = noop_on("off", "e");
        off["enabled"] = false.into();
        world.config(off).await;
        world.config(noop_on("about-others", "f")).await;
        let event = world.event("e", json!({"s": "x", "o": {"k": 1}})).await;
        let expected = [
            ("list", r#"condition failed: params.s: expected one of ["y","z"], actual "x""#),
            ("missing", "condition failed: params.t: expected 1, actual nothing (it is missing)"),
            ("nested", "condition failed: params.o__k: expected 2, actual 1"),
            ("off", "disabled"),
            ("other-value", r#"condition failed: params.s: expected "y", actual "x""#),
            ("pattern", r#"condition failed: params.s: expected a match of /^y/, actual "x""#),
            ("template", "template error: params.note: `event.params.nope` is undefined"),
            ("there", r#"condition failed: params.s: expected that it does not exist, actual "x""#),
            ("wrong", "template error: params.seconds: invalid type"),
        ];
        let check = async || {
            let story = world.story(&event).await;
            assert_eq!(story["event"]["_id"], json!(event));
            assert_eq!(story["produced_tasks"][0]["action_config"], json!("fires"), "{story}");
            let told = story["not_fired"].as_array().unwrap();
            assert_eq!(told.len(), expected.len(), "{told:?}");
            for (told, (config, reason)) in told.iter().zip(expected) {
                assert_eq!(told["action_config"], json!(config));
                let said = told["reason"].as_str().unwrap();
                assert!(said.starts_with(reason), "{config}: {said}");
            }
        };
        check().await;
        // Later config changes do not affect the story.
        for name in ["off", "missing", "pattern"] {
            assert_eq!(
                world.send("DELETE", &format!("/api/v1/action_configs/{name}"), &json!({})).await.0,
                204
            );
        }
        assert_eq!(
            world.send("PUT", "/api/v1/action_configs/list", &noop_on("list", "e")).await.0,
            200
        );
        world.config(noop_on("new", "e")).await;
        check().await;
    });
}

#[test]
fn the_tree_is_walked_from_event_to_tasks_to_further_events_and_back() {
    run_test(async {
        let world = World::fresh().await;
        let emits = json!({"name": "emits", "on": [{"event": "e"}], "action": {"task": "emit_event",
            "params": {"name": "f", "params": {"n": "{{ event.params.n }}"}}}});
        world.config(emits).await;
        world.config(noop_on("ends", "f")).await;
        let stop = CancellationToken::new();
        let _worker = world.worker(&[], &stop).await;
        let event = world.event("e", json!({"n": 5})).await;
        let task = world.only(&event).await;
        let ended = world.until(task, "succeeded").await;
        assert_eq!((&ended["event_id"], &ended["action_config"]), (&json!(event), &json!("emits")));
        let emitted = ended["outcome"]["event_id"].as_str().unwrap();
        let story = world.story(&event).await;
        let caused = story["produced_tasks"][0]["events"].as_array().unwrap();
        assert!(caused.contains(&json!(emitted)) && caused.len() == 3, "{story}");
        let further = world.story(emitted).await;
        assert_eq!(further["event"]["params"], json!({"n": 5}));
        assert_eq!(
            further["caused_by"],
            json!([{"event_id": event, "task_id": task, "action_config": "emits"}])
        );
        world.until(world.only(emitted).await, "succeeded").await;
    });
}

#[test]
fn what_there_is_no_story_of() {
    run_test(async {
        let world = World::fresh().await;
        for id in ["story-0000000000000000", "x", "story-", "story-zzzz", "0000000000000000"] {
            assert_eq!(world.get(&format!("/api/v1/event_story/{id}")).await.0, 404, "{id}");
        }
        let begin = async |body: &str, kind: &str| {
            let request =
                axum::http::Request::post("/api/v1/event_story").header("Content-Type", kind);
            world.ask(request.body(body.to_owned().into()).unwrap()).await.0
        };
        let form = "application/x-www-form-urlencoded";
        assert_eq!(begin("id=0000000000000001", form).await, 404);
        for bad in ["", "id=", "id=x", "event=1", "id=null"] {
            assert_eq!(begin(bad, form).await, 400, "{bad}");
        }
        assert_eq!(begin(r#"{"id": "x"}"#, "application/json").await, 400);
    });
}
