//! The examples of the OpenAPI document work, and answers match their schemas. The ledger has
//! its own such tests.

use serde_json::{Value as Json, json};
use store::testing::run_test;

use super::document::Described;
use super::world::World;

/// Sends the described example (or `body`) and validates the answer against the document.
struct Asking {
    world: World,
    document: Described,
}

impl Asking {
    async fn new() -> Self {
        Self { world: World::new().await, document: Described::all() }
    }

    /// `at`: the concrete address for the described `path`.
    async fn ask(&self, method: &str, path: &str, at: &str, expected: u16) -> Json {
        let sent = self.document.body(method, path).map(|(media_type, content)| {
            let example = &content["example"];
            let text = match (media_type.as_str(), example) {
                ("application/x-www-form-urlencoded", form) => {
                    format!("id={}", form["id"].as_str().unwrap())
                }
                (_, Json::String(text)) => text.clone(),
                (_, example) => example.to_string(),
            };
            (media_type.as_str(), text)
        });
        self.send(method, path, at, sent, expected).await
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        at: &str,
        sent: Option<(&str, String)>,
        expected: u16,
    ) -> Json {
        let (status, answer) = self.world.ask(method, at, sent).await;
        assert_eq!(status, expected, "{method} {at}: {answer}");
        self.document.assert_answer(method, path, status, &answer);
        answer
    }

    async fn post(&self, path: &str, body: Json, expected: u16) -> Json {
        self.send("POST", path, path, Some(("application/json", body.to_string())), expected).await
    }
}

#[test]
fn of_tasks() {
    run_test(async {
        let asking = Asking::new().await;
        let (all, one) = ("/api/v1/tasks", "/api/v1/tasks/{id}");
        let id = asking.ask("POST", all, all, 201).await["id"].clone();
        asking.ask("POST", all, all, 200).await;
        asking.post(all, json!({"task_type": "noop", "task_key": "before-new-year"}), 409).await;
        asking.post(all, json!({"task_type": "none"}), 400).await;
        asking.ask("GET", all, "/api/v1/tasks?status=waiting&limit=10", 200).await;
        asking.ask("GET", all, "/api/v1/tasks?limit=0", 400).await;
        let at = format!("/api/v1/tasks/{id}");
        asking.ask("GET", one, &at, 200).await;
        asking.ask("GET", one, "/api/v1/tasks/0", 404).await;
        asking.ask("GET", one, "/api/v1/tasks/%ff", 400).await;
        let (cancel, retry) = ("/api/v1/tasks/{id}/cancel", "/api/v1/tasks/{id}/retry");
        asking.ask("POST", cancel, &format!("{at}/cancel"), 200).await;
        asking.ask("POST", cancel, &format!("{at}/cancel"), 200).await;
        asking.ask("POST", retry, &format!("{at}/retry"), 200).await;
        sqlx::query("UPDATE tasks SET status = 'running'")
            .execute(&asking.world.pool)
            .await
            .unwrap();
        asking.ask("POST", retry, &format!("{at}/retry"), 409).await;
        asking.ask("POST", retry, "/api/v1/tasks/x/retry", 404).await;
    });
}

#[test]
fn of_events_and_action_configs() {
    run_test(async {
        let asking = Asking::new().await;
        let (configs, config) = ("/api/v1/action_configs", "/api/v1/action_configs/{name}");
        asking.ask("POST", configs, configs, 201).await;
        asking.ask("POST", configs, configs, 200).await;
        asking.ask("PUT", config, "/api/v1/action_configs/reorder", 200).await;
        asking.ask("PUT", config, "/api/v1/action_configs/other", 400).await;
        let other = json!({"name": "reorder", "on": [{"event": "e"}], "action": {"task": "noop"}});
        asking.post(configs, other, 409).await;
        let shown = asking.ask("GET", config, "/api/v1/action_configs/reorder", 200).await;
        let listed =
            asking.ask("GET", configs, "/api/v1/action_configs?event=stockArrived", 200).await;
        assert_eq!(listed["result"], json!([shown]));

        let events = "/api/v1/events";
        let event =
            asking.ask("POST", events, events, 201).await["_id"].as_str().unwrap().to_owned();
        asking.ask("POST", events, events, 200).await;
        asking.post(events, json!({"name": "other", "event_key": "delivery-12"}), 409).await;
        asking.post(events, json!([{"name": "a"}, {"name": "b"}]), 201).await;
        asking.post(events, json!({"name": ""}), 400).await;
        asking
            .ask("GET", events, "/api/v1/events?name=stockArrived&count=true&limit=10", 200)
            .await;
        asking.ask("GET", events, "/api/v1/events?params__storage=7&sort=_id", 200).await;
        asking.ask("GET", events, "/api/v1/events?nonsense=1", 400).await;

        let (begin, look) = ("/api/v1/event_story", "/api/v1/event_story/{id}");
        let form = |id: &str| Some(("application/x-www-form-urlencoded", format!("id={id}")));
        let story = asking.send("POST", begin, begin, form(&event), 200).await["id"].clone();
        asking.send("POST", begin, begin, form("0000000000000001"), 404).await;
        asking.send("POST", begin, begin, form("x"), 400).await;
        let at = format!("/api/v1/event_story/{}", story.as_str().unwrap());
        let story = asking.ask("GET", look, &at, 200).await;
        assert_eq!(story["result"]["produced_tasks"].as_array().unwrap().len(), 1, "{story}");
        asking.ask("GET", look, "/api/v1/event_story/story-x", 404).await;

        let status = "/task/status";
        asking.ask("POST", status, "/task/status?taskType=T&taskStatus=SUCCESS", 201).await;
        asking.ask("POST", status, "/task/status?taskType=T", 400).await;
        asking.ask("DELETE", config, "/api/v1/action_configs/reorder", 204).await;
        asking.ask("DELETE", config, "/api/v1/action_configs/reorder", 404).await;
        asking.ask("GET", config, "/api/v1/action_configs/reorder", 404).await;
    });
}

#[test]
fn of_the_configurator() {
    run_test(async {
        let asking = Asking::new().await;
        let (one, runs) = ("/configurator/v1/templates/{name}", "/configurator/v1/runs");
        let kept = asking.ask("PUT", one, "/configurator/v1/templates/balance", 200).await;
        assert_eq!(kept["blocks"], 1);
        asking
            .send(
                "PUT",
                one,
                "/configurator/v1/templates/balance",
                Some(("application/yaml", "x".to_owned())),
                400,
            )
            .await;
        asking.ask("GET", one, "/configurator/v1/templates/balance", 200).await;
        asking.ask("GET", one, "/configurator/v1/templates/other", 404).await;
        asking.ask("GET", "/configurator/v1/templates", "/configurator/v1/templates", 200).await;
        let forecast = "/configurator/v1/forecast";
        asking.ask("POST", forecast, forecast, 200).await;
        asking.post(forecast, json!({"template_name": "other", "env": "test"}), 404).await;
        let run_id = asking.ask("POST", runs, runs, 200).await["run_id"].clone();
        asking.ask("POST", runs, runs, 409).await;
        asking.post(runs, json!({"template_name": "other", "env": "test"}), 404).await;
        asking
            .post(runs, json!({"template_name": "t", "env": "test", "template": "[]"}), 400)
            .await;
        asking.ask("GET", runs, "/configurator/v1/runs?env=test&status=running", 200).await;
        asking.ask("GET", runs, "/configurator/v1/runs?env=moon", 400).await;
        let (show, at) = ("/configurator/v1/runs/{id}", format!("/configurator/v1/runs/{run_id}"));
        asking.ask("GET", show, &at, 200).await;
        asking.ask("GET", show, "/configurator/v1/runs/x", 404).await;
        let (resume, cancel) =
            ("/configurator/v1/runs/{id}/resume", "/configurator/v1/runs/{id}/cancel");
        asking.ask("POST", resume, &format!("{at}/resume"), 409).await;
        asking.ask("POST", cancel, &format!("{at}/cancel"), 200).await;
        asking.ask("POST", cancel, "/configurator/v1/runs/0/cancel", 404).await;
        for export in ["/configurator/v1/export", "/v1/export"] {
            asking.ask("GET", export, &format!("{export}?run_id={run_id}"), 200).await;
            asking.ask("GET", export, &format!("{export}?run_id=0"), 404).await;
            asking.ask("GET", export, export, 400).await;
        }
    });
}

#[test]
fn of_reconcile() {
    run_test(async {
        let (asking, path) = (Asking::new().await, "/api/v1/reconcile");
        let report = asking.ask("POST", path, path, 200).await;
        assert_eq!(report["outcomes"][0]["plan"]["changes"][0]["name"], "nightly", "{report}");
        asking
            .post(path, json!({"files": [{"path": "a.yaml", "text": "$schema: /no-1.yml"}]}), 400)
            .await;
        asking.post(path, json!({"files": [], "integrations": ["none"]}), 400).await;
        asking.post(path, json!({}), 400).await;
        // No likely mistake yields a successful request.
        for files in [
            json!([]),
            json!([{"path": "../a.yaml", "text": ""}]),
            json!([{"path": "a", "text": ""}]),
        ] {
            let refused = asking.post(path, json!({"files": files}), 400).await;
            assert!(refused["error"]["args"]["files"].is_string(), "{refused}");
        }
    });
}

#[test]
fn of_the_audit_trail() {
    run_test(async {
        let (asking, path) = (Asking::new().await, "/api/v1/audit");
        let listed = asking.ask("GET", path, "/api/v1/audit?limit=10", 200).await;
        assert_eq!(listed["result"][0]["action"], "bundle.initial", "{listed}");
        asking.ask("GET", path, "/api/v1/audit?action=nonsense", 400).await;
    });
}
