//! Promise: each change of configuration and each act of an operator is one entry of the audit trail,
//! committed with it, and nothing else is.

use std::sync::Arc;

use order_service::orders::db::{
    OrderState, repost_order, retry_order, retry_orders, revive_order,
};
use order_service::orders::pipeline::{PassThrough, StageActions, StageError};
use serde_json::{Value as Json, json};
use store::PgPool;
use store::testing::{create_control_database, run_test};

use crate::described::world::World;
use crate::harness::{OwnData, Process, Special};

const CONFIG: &str = "/api/v1/action_configs/reorder";

fn actor(name: &str) -> audit::AuditActor {
    audit::AuditActor::of_caller(Some(name), Some("10.0.0.7"))
}

/// Entries so far, oldest first, without that of the initial bundle: action, object, difference.
async fn entries(pool: &PgPool) -> Vec<(String, String, Json)> {
    sqlx::query_as(
        "SELECT action, object, difference FROM audit WHERE action <> 'bundle.initial' ORDER BY audit_id",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

/// The one entry since `count` entries: action, object, difference.
async fn only_entry_after(pool: &PgPool, count: &mut usize) -> (String, String, Json) {
    let all = entries(pool).await;
    assert_eq!(all.len(), *count + 1, "{all:?}");
    *count += 1;
    all.into_iter().next_back().unwrap()
}

async fn send(world: &World, method: &str, at: &str, body: Option<Json>, expected: u16) -> Json {
    let sent = body.map(|body| ("application/json", body.to_string()));
    let (status, answer) = world.ask(method, at, sent).await;
    assert_eq!(status, expected, "{method} {at}: {answer}");
    answer
}

fn config(priority: i32) -> Json {
    json!({
        "name": "reorder",
        "on": [{"event": "stockArrived"}],
        "action": {"task": "noop", "priority": priority},
    })
}

#[test]
fn a_new_database_tells_of_its_first_bundle() {
    run_test(async {
        let world = World::new().await;
        let (actor, action): (String, String) =
            sqlx::query_as("SELECT actor, action FROM audit").fetch_one(&world.pool).await.unwrap();
        assert_eq!((actor.as_str(), action.as_str()), ("service:start", "bundle.initial"));
    });
}

#[test]
fn a_change_of_an_action_config_is_one_entry_and_none_if_nothing_changed() {
    run_test(async {
        let (world, mut count) = (World::new().await, 0);
        send(&world, "PUT", CONFIG, Some(config(1)), 201).await;
        let (action, object, difference) = only_entry_after(&world.pool, &mut count).await;
        assert_eq!(
            (action.as_str(), object.as_str()),
            ("action_config.put", "action_config/reorder")
        );
        let fields = difference["fields"].as_array().unwrap();
        assert!(fields.contains(&json!({"field": "name", "after": "reorder"})), "{difference}");

        send(&world, "PUT", CONFIG, Some(config(1)), 200).await;
        assert_eq!(entries(&world.pool).await.len(), count, "nothing was changed");
        send(&world, "PUT", CONFIG, Some(config(2)), 200).await;
        let (.., difference) = only_entry_after(&world.pool, &mut count).await;
        let expected = json!({"field": "action.priority", "before": 1, "after": 2});
        assert_eq!(difference, json!({"fields": [expected]}));

        send(&world, "PUT", CONFIG, Some(json!({"name": "reorder"})), 400).await;
        send(&world, "DELETE", "/api/v1/action_configs/other", None, 404).await;
        assert_eq!(entries(&world.pool).await.len(), count, "what was refused is no change");
        send(&world, "DELETE", CONFIG, None, 204).await;
        let (action, ..) = only_entry_after(&world.pool, &mut count).await;
        assert_eq!(action, "action_config.delete");
    });
}

#[test]
fn change_and_entry_are_committed_together_or_not_at_all() {
    run_test(async {
        let world = World::new().await;
        let refuse = "CREATE FUNCTION refuse_commit() RETURNS trigger LANGUAGE plpgsql
            AS $$ BEGIN RAISE 'no' USING ERRCODE = 'check_violation'; END $$";
        sqlx::query(refuse).execute(&world.pool).await.unwrap();
        let at_commit = "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON action_configs
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse_commit()";
        sqlx::query(at_commit).execute(&world.pool).await.unwrap();
        send(&world, "PUT", CONFIG, Some(config(1)), 500).await;
        assert!(entries(&world.pool).await.is_empty(), "the change was rolled back");

        sqlx::query("DROP TRIGGER late ON action_configs").execute(&world.pool).await.unwrap();
        let no_entries = "CREATE TRIGGER full_trail BEFORE INSERT ON audit
            FOR EACH STATEMENT EXECUTE FUNCTION refuse_commit()";
        sqlx::query(no_entries).execute(&world.pool).await.unwrap();
        send(&world, "PUT", CONFIG, Some(config(1)), 500).await;
        send(&world, "GET", CONFIG, None, 404).await;
    });
}

#[test]
fn secrets_of_a_config_are_not_in_its_entry() {
    run_test(async {
        let world = World::new().await;
        let hook = json!({
            "name": "reorder",
            "on": [{"event": "stockArrived"}],
            "action": {"task": "http_request", "params": {
                "url": "https://hooks.example/canary?key=canary",
                "headers": {"X-Robot": "canary", "Authorization": "Bearer canary"},
                "json": {"password": "canary", "storage": 7},
            }},
        });
        send(&world, "PUT", CONFIG, Some(hook), 201).await;
        let (.., difference) = entries(&world.pool).await.pop().unwrap();
        let text = difference.to_string();
        assert!(!text.contains("canary") && text.contains("hooks.example"), "{text}");
        assert!(text.contains("X-Robot") && text.contains("********"), "{text}");
    });
}

#[test]
fn templates_runs_and_tasks_have_an_entry_for_each_act() {
    run_test(async {
        let (world, mut count) = (World::new().await, 0);
        let (template, mut seen) = ("/configurator/v1/templates/balance", Vec::new());
        let text = "type: module\nname: global\nblocks:\n  - {name: a, type: integration, integration: q.do, args: {n: 1}}\n";
        for (text, new) in [(text.to_owned(), 1), (text.to_owned(), 0), (format!("{text}\n"), 1)] {
            let (status, answer) =
                world.ask("PUT", template, Some(("application/yaml", text))).await;
            assert_eq!(status, 200, "{answer}");
            count += new;
            assert_eq!(entries(&world.pool).await.len(), count);
        }
        let wanted = json!({"template_name": "balance", "env": "test"});
        let run = send(&world, "POST", "/configurator/v1/runs", Some(wanted), 200).await;
        let run = format!("/configurator/v1/runs/{}", run["run_id"]);
        seen.push(only_entry_after(&world.pool, &mut count).await.0);
        for act in ["cancel", "resume", "cancel"] {
            send(&world, "POST", &format!("{run}/{act}"), None, 200).await;
            seen.push(only_entry_after(&world.pool, &mut count).await.0);
        }
        send(&world, "POST", &format!("{run}/cancel"), None, 200).await;
        assert_eq!(entries(&world.pool).await.len(), count, "it was cancelled already");

        let noop = json!({"task_type": "noop"});
        let task = send(&world, "POST", "/api/v1/tasks", Some(noop), 201).await;
        let task = format!("/api/v1/tasks/{}", task["id"]);
        for act in ["cancel", "retry"] {
            send(&world, "POST", &format!("{task}/{act}"), None, 200).await;
            let (action, _, difference) = only_entry_after(&world.pool, &mut count).await;
            assert_eq!(difference["fields"][0]["field"], "status", "{difference}");
            seen.push(action);
        }
        let expected =
            ["run.begin", "run.cancel", "run.resume", "run.cancel", "task.cancel", "task.retry"];
        assert_eq!(seen, expected);
    });
}

#[test]
fn each_object_that_reconcile_changes_has_an_entry() {
    run_test(async {
        let (world, path) = (World::new().await, "/api/v1/reconcile");
        let file =
            "$schema: /tasks/task-1.yml\nname: nightly\nschedule: \"0 3 * * *\"\ntask_type: noop\n";
        let mut wanted = json!({
            "integrations": ["schedules"],
            "dry_run": true,
            "files": [{"path": "tasks/nightly.yaml", "text": file}],
        });
        send(&world, "POST", path, Some(wanted.clone()), 200).await;
        assert!(entries(&world.pool).await.is_empty(), "a dry run changes nothing");
        wanted["dry_run"] = false.into();
        let report = send(&world, "POST", path, Some(wanted.clone()), 200).await;
        let changes = report["outcomes"][0]["plan"]["changes"].as_array().unwrap().clone();
        let written = entries(&world.pool).await;
        assert_eq!(written.len(), changes.len(), "{written:?}");
        let (action, object, difference) =
            written.iter().find(|(_, object, _)| object == "schedule/nightly").unwrap();
        assert_eq!((action.as_str(), object.as_str()), ("reconcile.apply", "schedule/nightly"));
        assert_eq!(difference["action"], "create");
        send(&world, "POST", path, Some(wanted), 200).await;
        assert_eq!(entries(&world.pool).await.len(), written.len(), "nothing was left to change");
    });
}

/// A process in which the orders 1 to 3 have failed and 4 is finished.
async fn process_with_failed_orders(pool: &PgPool) -> Process {
    fn fails() -> Result<(), StageError> {
        Err(StageError::Permanent("no".to_owned()))
    }
    let stages = StageActions {
        start: Arc::new(PassThrough),
        external: Arc::new(OwnData::new(pool)),
        finish: Special::new(PassThrough, [1, 2, 3].map(|id| (id, fails as fn() -> _))),
    };
    let process = Process::working(pool, stages).await;
    process.accept(&[(1, 7), (2, 7), (3, 7), (4, 7)]).await.unwrap();
    for order_id in 1..=3 {
        process.until(order_id, |order| order.state == OrderState::Failed).await;
    }
    process.until(4, |order| order.state == OrderState::ProcessFinished).await;
    process
}

#[test]
fn a_repaired_order_is_an_entry_and_one_that_needs_no_repair_is_none() {
    run_test(async {
        let (pool, mut count) = (create_control_database().await, 0);
        let process = process_with_failed_orders(&pool).await;
        revive_order(&pool, 1.into(), &actor("cli:root")).await.unwrap();
        let (action, object, difference) = only_entry_after(&pool, &mut count).await;
        assert_eq!((action.as_str(), object.as_str()), ("order.repair", "order/1"));
        assert_eq!(difference, json!({"repair": "revived"}));
        repost_order(&pool, 4.into(), &actor("cli:root")).await.unwrap();
        only_entry_after(&pool, &mut count).await;
        revive_order(&pool, 4.into(), &actor("cli:root")).await.unwrap();
        repost_order(&pool, 3.into(), &actor("cli:root")).await.unwrap();
        assert_eq!(entries(&pool).await.len(), count);
        drop(process);
    });
}

#[test]
fn retried_orders_are_one_entry_for_each_transaction() {
    run_test(async {
        let pool = create_control_database().await;
        let process = process_with_failed_orders(&pool).await;
        assert!(entries(&pool).await.is_empty(), "orders themselves are not audited");

        let mut count = 0;
        retry_order(&pool, &process.jobs, 1.into(), &actor("root")).await.unwrap();
        let (action, object, difference) = only_entry_after(&pool, &mut count).await;
        assert_eq!((action.as_str(), object.as_str()), ("order.retry", "order/1"));
        assert_eq!(difference, json!({"revived": 1, "made_due": 0}));
        let ids = [2.into(), 3.into(), 4.into(), 5.into()];
        let refused = retry_orders(&pool, &process.jobs, &ids, &actor("root")).await.unwrap();
        assert_eq!(refused.len(), 2, "a finished one, and one that nobody knows");
        let (.., difference) = only_entry_after(&pool, &mut count).await;
        assert_eq!(difference["order_ids"], json!([2, 3]));
        assert!(retry_order(&pool, &process.jobs, 4.into(), &actor("root")).await.is_err());
        assert_eq!(entries(&pool).await.len(), count, "a refused retry is no act");
        let (actor, origin): (String, String) =
            sqlx::query_as("SELECT DISTINCT actor, origin FROM audit")
                .fetch_one(&pool)
                .await
                .unwrap();
        assert_eq!((actor.as_str(), origin.as_str()), ("root", "10.0.0.7"));
    });
}

#[test]
fn a_queue_that_reconcile_makes_is_an_entry() {
    run_test(async {
        let (world, path) = (World::new().await, "/api/v1/reconcile");
        let file = "$schema: /queues/queue-1.yml\nname: mail\ndescription: of the test\nenvs: [test]\nvisibility_seconds: 30\n";
        let wanted = json!({
            "integrations": ["queues"],
            "files": [{"path": "queues/mail.yaml", "text": file}],
        });
        send(&world, "POST", path, Some(wanted.clone()), 200).await;
        let objects: Vec<String> =
            entries(&world.pool).await.into_iter().map(|(_, object, _)| object).collect();
        assert_eq!(objects, ["queue/mail-test-dead.fifo", "queue/mail-test.fifo"]);
        send(&world, "POST", path, Some(wanted), 200).await;
        assert_eq!(entries(&world.pool).await.len(), 2, "nothing was left to make");
    });
}

#[test]
fn wrong_filters_are_refused_with_what_is_allowed() {
    run_test(async {
        let world = World::new().await;
        send(&world, "PUT", CONFIG, Some(config(1)), 201).await;
        let found =
            send(&world, "GET", "/api/v1/audit?object=action_config/reorder", None, 200).await;
        assert_eq!(found["result"][0]["actor"], "anonymous", "{found}");
        assert_eq!(found["result"].as_array().unwrap().len(), 1);
        for (wrong, field) in [
            ("action=nonsense", "action"),
            ("from=yesterday", "from"),
            ("to=2026-02-30T00:00:00Z", "to"),
            ("before=x", "before"),
            ("limit=1001", "limit"),
            ("order=1", "order"),
        ] {
            let at = format!("/api/v1/audit?{wrong}");
            let refused = send(&world, "GET", &at, None, 400).await;
            assert!(
                refused["error"]["args"]["field"] == field
                    || refused["error"].to_string().contains(field),
                "{refused}"
            );
        }
    });
}
