//! Hazard: one config or event blocks all others, or exhausts memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use store::testing::run_test;

use crate::harness::World;

/// Many times the expected duration; the unfixed code took many times this.
const BOUND: Duration = Duration::from_secs(20);

#[test]
fn configs_that_cost_too_much_are_refused() {
    run_test(async {
        let world = World::fresh().await;
        let action = |params: Value| {
            json!({"name": "c", "on": [{"event": "e"}],
                   "action": {"task": "http_request", "params": {"url": "http://a.example", "json": params}}})
        };
        let on = |params: Value| json!({"name": "c", "on": [{"event": "e", "params": params}], "action": {"task": "noop"}});
        let path = "p".repeat(257);
        let patterns: Vec<Value> = (0..4)
            .map(|n| json!({"event": "e", "params": {format!("a{n}"): {"regex": r"^\w{10}$"}}}))
            .collect();
        let patterns = json!({"name": "c", "on": patterns, "action": {"task": "noop"}});
        for (config, field, words) in [
            (action(json!("{{ event|tojson(2000000000) }}")), "action.params.json", "no arguments"),
            (action(json!(vec!["{{ event.name }}"; 1001])), "action.params", "at most 1000"),
            (action(json!("x".repeat(66_000))), "action", "65536"),
            (on(json!({path: 1})), "on[0].params", "256 bytes"),
            (
                on(json!({"a": {"in": (0..1001).collect::<Vec<_>>()}})),
                "on[0].params.a",
                "at most 1000",
            ),
            (patterns, "on", "compile to"),
        ] {
            let (status, told) = world.send("POST", "/api/v1/action_configs", &config).await;
            assert_eq!(
                (status, &told["error"]["code"]),
                (400, &json!("VALIDATION_ERROR")),
                "{told}"
            );
            let said = told["error"]["args"][field].as_str();
            assert!(said.is_some_and(|said| said.contains(words)), "{field}: {told}");
        }
        let (status, told) =
            world.send("POST", "/api/v1/action_configs", &action(json!("x".repeat(300_000)))).await;
        assert_eq!((status, &told["error"]["code"]), (413, &json!("TOO_LARGE")));
        assert_eq!(world.count("SELECT count(*) FROM action_configs").await, 0);
        world.config(on(json!({"a": {"in": (0..1000).collect::<Vec<_>>()}}))).await;
        world.event("e", json!({"a": 999.0})).await;
        assert_eq!(world.count("SELECT count(*) FROM tasks").await, 1);
    });
}

#[test]
fn an_event_has_at_most_so_many_values() {
    run_test(async {
        let world = World::fresh().await;
        let event = |values: usize| json!({"name": "e", "params": {"list": vec![1; values - 1]}});
        assert_eq!(world.send("POST", "/api/v1/events", &event(10_000)).await.0, 201);
        for (body, field) in [
            (event(10_001), "params"),
            (json!([event(5), event(120_000)]), "[1].params"),
            (
                json!([{"name": "e", "params": {"a": {"b": vec![json!({"c": [1]}); 4000]}}}]),
                "[0].params",
            ),
        ] {
            let (status, told) = world.send("POST", "/api/v1/events", &body).await;
            assert_eq!((status, &told["error"]["code"]), (400, &json!("VALIDATION_ERROR")));
            assert_eq!(
                told["error"]["args"][field],
                json!("must hold at most 10000 values"),
                "{told}"
            );
        }
        assert_eq!(world.count("SELECT count(*) FROM events").await, 1);
    });
}

#[test]
fn all_that_one_event_renders_has_one_budget_and_its_story_says_so() {
    run_test(async {
        let world = World::fresh().await;
        let params = json!({"url": "http://a.example", "json": vec!["{{ event.params.big }}"; 30]});
        for n in 0..5 {
            let action = json!({"task": "http_request", "params": params});
            world
                .config(json!({"name": format!("c{n}"), "on": [{"event": "e"}], "action": action}))
                .await;
        }
        let event = world.event("e", json!({"big": "x".repeat(60_000)})).await;
        let started: Vec<String> =
            world.started(&event).await.into_iter().map(|(config, _)| config).collect();
        assert_eq!(started, ["c0", "c1"]);
        for config in ["c2", "c4"] {
            let reason = world.reason(&event, config).await;
            assert!(reason.contains("all templates of one event"), "{reason}");
        }
        // Another event has a full budget.
        let small = world.event("e", json!({"big": "x"})).await;
        assert_eq!(world.started(&small).await.len(), 5);
    });
}

#[test]
fn configs_whose_templates_lack_a_param_starve_no_other() {
    run_test(async {
        let world = World::fresh().await;
        let action = json!({"task": "noop", "params": {"note": "{{ event.params.optional }}"}});
        for n in 0..12 {
            let name = format!("lacks{n:02}");
            world.config(json!({"name": name, "on": [{"event": "e"}], "action": action})).await;
        }
        let action = json!({"task": "noop", "params": {"note": "{{ event.params.there }}"}});
        world.config(json!({"name": "later", "on": [{"event": "e"}], "action": action})).await;
        let event = world.event("e", json!({"there": "x"})).await;
        let started: Vec<String> =
            world.started(&event).await.into_iter().map(|(config, _)| config).collect();
        assert_eq!(started, ["later"]);
        let reason = world.reason(&event, "lacks11").await;
        assert!(reason.contains("is undefined"), "{reason}");
    });
}

#[test]
fn a_batch_whose_tasks_have_concurrency_keys_is_written_at_once() {
    run_test(async {
        let world = World::fresh().await;
        let action = json!({"task": "noop", "concurrency_key": "key-{{ event.params.n }}"});
        world.config(json!({"name": "c", "on": [{"event": "e"}], "action": action})).await;
        let batch: Vec<Value> =
            (0..10_000).map(|n| json!({"name": "e", "params": {"n": n % 100}})).collect();
        let began = Instant::now();
        let (status, told) = world.send("POST", "/api/v1/events", &json!(batch)).await;
        assert_eq!(status, 201, "{told}");
        assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
        assert_eq!(world.count("SELECT count(*) FROM jobs WHERE queue = 'actions'").await, 10_000);
        assert_eq!(world.count("SELECT count(*) FROM jobs WHERE NOT blocked").await, 100);
    });
}

#[test]
fn events_that_start_many_tasks_stop_nobody_else() {
    // One runtime thread, as on a machine with one core.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let world = World::fresh().await;
        for n in 0..20 {
            let params = json!({"url": "http://a.example", "json": {
                "n": "{{ event.params.n }}", "text": "{% for k in event.params.k %}{{ k }} of {{ event.name }}, {% endfor %}",
            }});
            let action = json!({"task": "http_request", "params": params});
            let on = json!([{"event": "e", "params": {"t": {"regex": "^x+$"}}}]);
            world.config(json!({"name": format!("c{n}"), "on": on, "action": action})).await;
        }
        // Measures the longest scheduling delay.
        let (longest, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let ticking = tokio::spawn({
            let (longest, stop) = (longest.clone(), stop.clone());
            async move {
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    longest.fetch_max(began.elapsed().as_millis() as u64, Ordering::Relaxed);
                }
            }
        });
        let params = json!({"n": 1, "t": "xxx", "k": (0..30).collect::<Vec<_>>()});
        let batch = vec![json!({"name": "e", "params": params}); 500];
        let body = json!(batch);
        let (status, told) = world.send("POST", "/api/v1/events", &body).await;
        assert_eq!(status, 201, "{told}");
        stop.store(true, Ordering::Relaxed);
        ticking.await.unwrap();
        assert_eq!(world.count("SELECT count(*) FROM tasks").await, 10_000);
        let longest = longest.load(Ordering::Relaxed);
        assert!(longest < 400, "nothing else ran for {longest} ms");
    });
}
