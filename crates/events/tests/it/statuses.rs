//! Hazard: a task's status event is missing, duplicated or wrong; a cancelled task keeps running;
//! two tasks with one key run concurrently.

use serde_json::{Value, json};
use store::testing::run_test;
use tokio_util::sync::CancellationToken;

use crate::harness::World;

/// A config whose `noop` takes the event's `seconds`.
fn slow(name: &str, more: Value) -> Value {
    let mut action = json!({"task": "noop", "params": {"seconds": "{{ event.params.seconds }}"}});
    action.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"name": name, "on": [{"event": "e"}], "action": action})
}

/// The reported statuses of a task.
async fn told(world: &World, task: i64) -> Vec<String> {
    let (_, answer) =
        world.get(&format!("/api/v1/events?name=taskEvent&params__task_id={task}&sort=_id")).await;
    let events = answer["result"].as_array().unwrap();
    events.iter().map(|event| event["params"]["taskStatus"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn each_status_is_an_event_and_starts_what_is_next() {
    run_test(async {
        let world = World::fresh().await;
        world.config(slow("first", json!({}))).await;
        let on = json!([{"event": "taskEvent", "params": {"taskType": "first", "taskStatus": "SUCCESS", "environment": "stable"}}]);
        world.config(json!({"name": "next", "on": on, "action": {"task": "noop"}})).await;
        let stop = CancellationToken::new();
        let _worker = world.worker(&[], &stop).await;
        let event = world.event("e", json!({"seconds": 0})).await;
        let task = world.only(&event).await;
        world.until(task, "succeeded").await;
        assert_eq!(told(&world, task).await, ["RUNNING", "SUCCESS"]);
        world.until(task + 1, "succeeded").await;
        assert_eq!(world.task(task + 1).await["action_config"], "next");
    });
}

#[test]
fn one_that_fails_is_tried_again_told_once_and_can_be_retried() {
    run_test(async {
        let world = World::fresh().await;
        // A port without a listener.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = listener.local_addr().unwrap().to_string();
        drop(listener);
        let action = json!({"task": "http_request", "params": {"url": format!("http://{place}/")}, "max_attempts": 2});
        world.config(json!({"name": "c", "on": [{"event": "e"}], "action": action})).await;
        let stop = CancellationToken::new();
        let _worker = world.worker(std::slice::from_ref(&place), &stop).await;
        let event = world.event("e", json!({})).await;
        let task = world.only(&event).await;
        let failed = world.until(task, "failed").await;
        assert_eq!(failed["attempts"], 2, "{failed}");
        assert!(failed["error"].as_str().unwrap().contains("UNAVAILABLE"), "{failed}");
        assert_eq!(told(&world, task).await, ["RUNNING", "FAILURE"]);
        assert_eq!(
            world.send("POST", &format!("/api/v1/tasks/{task}/cancel"), &json!({})).await.0,
            409
        );
        world
            .until_some("its letter", || async {
                (world.count("SELECT count(*) FROM dead_jobs WHERE queue = 'actions'").await == 1)
                    .then_some(())
            })
            .await;
        let (status, retried) =
            world.send("POST", &format!("/api/v1/tasks/{task}/retry"), &json!({})).await;
        assert_eq!((status, &retried["id"]), (200, &json!(task)), "{retried}");
        world
            .until_some("it fails again", || async {
                (told(&world, task).await == ["RUNNING", "FAILURE", "RUNNING", "FAILURE"])
                    .then_some(())
            })
            .await;
        assert_eq!(world.task(task).await["attempts"], 4);
        for missing in ["0", "x", "999"] {
            assert_eq!(
                world.send("POST", &format!("/api/v1/tasks/{missing}/retry"), &json!({})).await.0,
                404
            );
        }
    });
}

#[test]
fn waiting_and_running_ones_are_cancelled() {
    run_test(async {
        let world = World::fresh().await;
        world.config(slow("c", json!({"concurrency_key": "one"}))).await;
        let stop = CancellationToken::new();
        let _worker = world.worker(&[], &stop).await;
        let running = world.only(&world.event("e", json!({"seconds": 600})).await).await;
        let waiting = world.only(&world.event("e", json!({"seconds": 600})).await).await;
        let last = world.only(&world.event("e", json!({"seconds": 0})).await).await;
        world.until(running, "running").await;
        assert_eq!(world.task(waiting).await["status"], "waiting");
        for task in [waiting, running, running] {
            let (status, cancelled) =
                world.send("POST", &format!("/api/v1/tasks/{task}/cancel"), &json!({})).await;
            assert_eq!((status, &cancelled["status"]), (200, &json!("cancelled")), "{cancelled}");
        }
        // The next task of this key runs only after the running one was dropped.
        world.until(last, "succeeded").await;
        assert_eq!(told(&world, running).await, ["RUNNING"]);
        assert_eq!(told(&world, waiting).await, [""; 0]);
        assert_eq!(world.task(waiting).await["attempts"], 0);
    });
}

#[test]
fn tasks_with_one_key_never_run_at_once_and_the_urgent_go_first() {
    run_test(async {
        let world = World::fresh().await;
        world.config(slow("keyed", json!({"concurrency_key": "k-{{ event.params.env }}"}))).await;
        for n in 0..8 {
            world
                .event("e", json!({"seconds": 0.02, "env": if n % 2 == 0 { "a" } else { "b" }}))
                .await;
        }
        let stop = CancellationToken::new();
        let worker = world.worker(&[], &stop).await;
        for task in 1..=8 {
            world.until(task, "succeeded").await;
        }
        let overlaps = world.count(
            "SELECT count(*) FROM tasks a JOIN tasks b ON a.concurrency_key = b.concurrency_key AND a.task_id < b.task_id
             AND tstzrange(a.started_at, a.ended_at) && tstzrange(b.started_at, b.ended_at)",
        );
        assert_eq!(overlaps.await, 0);
        worker.stop(std::time::Duration::from_secs(5)).await;
        // Priority order, once a worker runs.
        world.send("DELETE", "/api/v1/action_configs/keyed", &json!({})).await;
        for (name, priority) in [("low", -5), ("usual", 0), ("high", 7)] {
            world.config(slow(name, json!({"priority": priority}))).await;
        }
        for _ in 0..8 {
            world.event("e", json!({"seconds": 0.05})).await;
        }
        let _worker = world.worker(&[], &stop).await;
        world
            .until_some("all done", || async {
                (world.count("SELECT count(*) FROM tasks WHERE status <> 'succeeded'").await == 0)
                    .then_some(())
            })
            .await;
        let late = world.count(
            "SELECT count(*) FROM tasks a, tasks b WHERE a.action_config = 'high' AND b.action_config = 'low'
             AND a.started_at > b.started_at",
        );
        assert_eq!(late.await, 0);
    });
}

#[test]
fn statuses_from_elsewhere_become_events() {
    run_test(async {
        let world = World::fresh().await;
        let path = "/task/status?taskType=SOUP&taskStatus=SUCCESS&environment=testing";
        let body = json!({"taskType": "X", "date": "2026-11-25", "environment": "y"});
        let (status, answer) = world.send("POST", path, &body).await;
        assert_eq!(status, 201, "{answer}");
        let story = world.story(answer["_id"].as_str().unwrap()).await;
        assert_eq!(story["event"]["name"], "taskEvent");
        let params = json!({"taskType": "SOUP", "taskStatus": "SUCCESS", "environment": "testing", "date": "2026-11-25"});
        assert_eq!(story["event"]["params"], params);
        let empty = axum::http::Request::post("/task/status?taskType=T&taskStatus=S");
        let (status, answer) = world.ask(empty.body(axum::body::Body::empty()).unwrap()).await;
        assert_eq!(status, 201, "{answer}");
        for (path, body) in [
            ("/task/status?taskType=T", json!({})),
            ("/task/status?taskStatus=T", json!({})),
            ("/task/status?taskType=T&taskStatus=S&x=1", json!({})),
            ("/task/status?taskType=T&taskStatus=S", json!([1])),
            ("/task/status?taskType=T&taskStatus=S", json!({"a": "\u{0}"})),
        ] {
            assert_eq!(world.send("POST", path, &body).await.0, 400, "{path} {body}");
        }
    });
}
