//! Hazard: a config that can never start a task is accepted and each event fails silently; or a
//! config is rejected for text that is no template.

use serde_json::{Value, json};
use store::testing::run_test;
use tokio_util::sync::CancellationToken;

use crate::harness::World;

fn noop(params: Value) -> Value {
    json!({"name": "c", "on": [{"event": "e"}], "action": {"task": "noop", "params": params}})
}

#[test]
fn what_means_nothing_is_refused_when_it_is_written() {
    run_test(async {
        let world = World::fresh().await;
        let hook = |params: Value| json!({"name": "c", "on": [{"event": "e"}], "action": {"task": "http_request", "params": params}});
        for (config, field, words) in [
            (
                noop(json!({"note": "{{ event.params.x | uper }}"})),
                "action.params.note",
                "did you mean `upper`?",
            ),
            (noop(json!({"note": "{{ range(10) }}"})), "action.params.note", "no function `range`"),
            (
                noop(json!({"note": {"a": ["{{ evnt.params.x }}"]}})),
                "action.params.note.a[0]",
                "did you mean `event`?",
            ),
            (
                noop(json!({"date": "{{ event.params.date }}"})),
                "action.params.date",
                "unknown field `date`",
            ),
            (hook(json!({"json": "{{ event.params.x }}"})), "action.params", "missing field `url`"),
            (
                hook(
                    json!({"url": "{{ event.params.x }}", "timeout_seconds": "{{ event.params.s }} s"}),
                ),
                "action.params.timeout_seconds",
                "invalid type",
            ),
        ] {
            let (status, told) = world.send("POST", "/api/v1/action_configs", &config).await;
            assert_eq!(status, 400, "{config}: {told}");
            let said = told["error"]["args"][field].as_str().unwrap_or_default();
            assert!(said.contains(words), "{field}: {told}");
        }
        let mut keyed = noop(json!({}));
        keyed["action"]["concurrency_key"] = "{{ event.parms.x }}".into();
        let (status, told) = world.send("PUT", "/api/v1/action_configs/c", &keyed).await;
        assert!(status == 400 && told.to_string().contains("did you mean `params`?"), "{told}");
        assert_eq!(world.count("SELECT count(*) FROM action_configs").await, 0);
    });
}

#[test]
fn a_star_beside_a_template_is_a_star() {
    run_test(async {
        let world = World::fresh().await;
        let texts = [
            "*Deploy of {{ event.params.x }}* failed",
            "*/5 * * * * {{ event.params.x }}",
            "/* {{ event.params.x }} */",
        ];
        world.config(noop(json!({"note": texts}))).await;
        let event = world.event("e", json!({"x": "it"})).await;
        let task = world.task(world.only(&event).await).await;
        assert_eq!(
            task["params"]["note"],
            json!(["*Deploy of it* failed", "*/5 * * * * it", "/* it */"])
        );
    });
}

#[test]
fn whatever_event_is_taken_starts_what_is_to_start_on_it() {
    run_test(async {
        let (world, stop) = (World::fresh().await, CancellationToken::new());
        let _worker = world.worker(&[], &stop).await;
        world
            .config(json!({"name": "plain", "on": [{"event": "e"}], "action": {"task": "noop"}}))
            .await;
        let action = json!({"task": "noop", "params": {"note": "{{ event.params.n }}"}, "concurrency_key": "k-{{ event.params.n }}"});
        world.config(json!({"name": "rendered", "on": [{"event": "e"}], "action": action})).await;
        for size in [100 << 10, (256 << 10) - 20] {
            let event = world.event("e", json!({"n": 7, "big": "x".repeat(size)})).await;
            let started = world.started(&event).await;
            assert_eq!(
                started.iter().map(|(config, _)| config.as_str()).collect::<Vec<_>>(),
                ["plain", "rendered"]
            );
            assert_eq!(world.until(started[1].1, "succeeded").await["params"]["note"], 7);
        }
        let large = json!({"name": "e", "params": {"big": "x".repeat(256 << 10)}});
        let (status, told) = world.send("POST", "/api/v1/events", &large).await;
        assert!(status == 413 && told.to_string().contains("256 KiB"), "{told}");
        // Events that the platform emits have the same limit.
        let action = json!({"task": "emit_event", "params": {"name": "f", "params": {"a": "{{ event.params.big }}", "b": "{{ event.params.big }}"}}});
        world.config(json!({"name": "emits", "on": [{"event": "g"}], "action": action})).await;
        let event = world.event("g", json!({"big": "x".repeat(200 << 10)})).await;
        assert!(world.reason(&event, "emits").await.contains("256 KiB"));
    });
}
