//! Hazard: an invalid config is accepted, or a config is changed by a client that does not own it.

use events::configs::{ActionConfig, OwnershipOptions, sync_configs};
use reconcile::ObjectOwner;
use serde_json::{Value, json};
use store::testing::run_test;

use crate::harness::{World, noop_on};

#[test]
fn what_is_wrong_is_said_with_its_field() {
    run_test(async {
        let world = World::fresh().await;
        let action = |action: Value| json!({"name": "c", "on": [{"event": "e"}], "action": action});
        let on = |on: Value| json!({"name": "c", "on": on, "action": {"task": "noop"}});
        for (config, field, words) in [
            (json!({"name": "c", "action": {"task": "noop"}}), "on", "missing"),
            (on(json!([])), "on", "1 to 16"),
            (on(json!([{"event": ""}])), "on[0].event", "1 to 256"),
            (on(json!([{"event": "e", "param": {}}])), "on[0].param", "unknown field"),
            (on(json!([{"event": "e", "params": {"a": {"is": 1}}}])), "on[0].params.a", "{in:"),
            (
                on(json!([{"event": "e", "params": {"a": {"regex": "("}}}])),
                "on[0].params.a",
                "regex",
            ),
            (action(json!({"task": "nop"})), "action.task", "did you mean `noop`"),
            (
                action(json!({"task": "noop", "params": {"second": 1}})),
                "action.params.second",
                "unknown field",
            ),
            (
                action(json!({"task": "noop", "params": {"seconds": -1}})),
                "action.params.seconds",
                "0 to 3600",
            ),
            (
                action(
                    json!({"task": "http_request", "params": {"url": "http://a.example", "headers": {"Host": "b"}}}),
                ),
                "action.params.headers",
                "set by the platform",
            ),
            (
                action(
                    json!({"task": "http_request", "params": {"url": "http://a.example", "json": 1, "body": ""}}),
                ),
                "action.params",
                "not both",
            ),
            (
                action(json!({"task": "noop", "params": {"note": "{{ x"}})),
                "action.params.note",
                "syntax",
            ),
            (
                action(json!({"task": "noop", "params": {"note": "{% set x = 1 %}"}})),
                "action.params.note",
                "`set`",
            ),
            (action(json!({"task": "noop", "max_attempts": 0})), "action.max_attempts", "1 to 100"),
            (action(json!({"task": "noop", "priority": 1000})), "action.priority", "-100 to 100"),
            (
                action(json!({"task": "noop", "concurrency_key": ""})),
                "action.concurrency_key",
                "empty",
            ),
            (
                json!({"name": "a b", "on": [{"event": "e"}], "action": {"task": "noop"}}),
                "name",
                "letter",
            ),
            (
                json!({"$schema": "/x", "name": "c", "on": [{"event": "e"}], "action": {"task": "noop"}}),
                "$schema",
                "action-config-1",
            ),
        ] {
            let (status, told) = world.send("POST", "/api/v1/action_configs", &config).await;
            assert_eq!(
                (status, &told["error"]["code"]),
                (400, &json!("VALIDATION_ERROR")),
                "{config}: {told}"
            );
            let said = told["error"]["args"][field].as_str();
            assert!(said.is_some_and(|said| said.contains(words)), "{field}: {told}");
        }
        assert_eq!(world.count("SELECT count(*) FROM action_configs").await, 0);
    });
}

#[test]
fn they_are_created_replaced_listed_and_deleted() {
    run_test(async {
        let world = World::fresh().await;
        let mut config = noop_on("c", "e");
        config["$schema"] = "/events/action-config-1.yml".into();
        config["author"] = "robot".into();
        let (status, created) = world.send("POST", "/api/v1/action_configs", &config).await;
        assert_eq!(
            (status, &created["owner"], &created["author"]),
            (201, &json!("api"), &json!("robot"))
        );
        assert_eq!(world.send("POST", "/api/v1/action_configs", &config).await.0, 200);
        config["enabled"] = false.into();
        assert_eq!(world.send("POST", "/api/v1/action_configs", &config).await.0, 409);
        assert_eq!(world.send("PUT", "/api/v1/action_configs/d", &config).await.0, 400);
        // The response body of GET is a valid PUT body.
        let mut shown = world.get("/api/v1/action_configs/c").await.1;
        shown["enabled"] = false.into();
        let (status, put) = world.send("PUT", "/api/v1/action_configs/c", &shown).await;
        assert_eq!((status, &put["enabled"]), (200, &json!(false)), "{put}");
        world.config(noop_on("d", "f")).await;
        let names = async |query: &str| -> Vec<String> {
            let (_, listed) = world.get(&format!("/api/v1/action_configs{query}")).await;
            listed["result"]
                .as_array()
                .unwrap()
                .iter()
                .map(|c| c["name"].as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(names("").await, ["c", "d"]);
        assert_eq!(names("?author=robot").await, ["c"]);
        assert_eq!(names("?event=f").await, ["d"]);
        assert_eq!(names("?event=f&author=robot").await, [""; 0]);
        assert_eq!(world.get("/api/v1/action_configs?x=1").await.0, 400);
        assert_eq!(world.send("DELETE", "/api/v1/action_configs/c", &json!({})).await.0, 204);
        assert_eq!(world.send("DELETE", "/api/v1/action_configs/c", &json!({})).await.0, 404);
        assert_eq!(world.get("/api/v1/action_configs/c").await.0, 404);
    });
}

#[test]
fn a_bundle_changes_what_is_its_own_and_says_what_it_did() {
    run_test(async {
        let world = World::fresh().await;
        let config = |name: &str, event: &str| -> ActionConfig {
            serde_json::from_value(noop_on(name, event)).unwrap()
        };
        let terms = OwnershipOptions {
            owner: ObjectOwner::Bundle,
            take_over: false,
            allow_delete_all: false,
        };
        let wanted = vec![config("a", "e"), config("b", "e")];
        let dry = sync_configs(&world.pool, wanted.clone(), terms, None).await.unwrap();
        assert_eq!(
            (dry.plan.changes.len(), world.count("SELECT count(*) FROM action_configs").await),
            (2, 0)
        );
        sync_configs(
            &world.pool,
            wanted.clone(),
            terms,
            Some(audit::AuditActor::of_service("test")),
        )
        .await
        .unwrap();
        let again =
            sync_configs(&world.pool, wanted, terms, Some(audit::AuditActor::of_service("test")))
                .await
                .unwrap();
        assert_eq!(
            (again.plan.changes.len(), again.unchanged),
            (0, vec!["a".to_owned(), "b".to_owned()])
        );
        assert_eq!(
            world.count("SELECT version FROM action_configs_version").await,
            2,
            "nothing was changed"
        );
        // A client takes over one config through the API and creates another.
        assert_eq!(world.send("PUT", "/api/v1/action_configs/a", &noop_on("a", "g")).await.0, 200);
        world.config(noop_on("own", "e")).await;
        let steps = sync_configs(
            &world.pool,
            vec![config("a", "e")],
            terms,
            Some(audit::AuditActor::of_service("test")),
        )
        .await
        .unwrap();
        assert_eq!((steps.plan.refused.len(), steps.deletes), (1, vec!["b".to_owned()]));
        let event = world.event("e", json!({})).await;
        assert_eq!(world.started(&event).await.len(), 1);
        // API write on behalf of the bundle.
        let refused = world
            .send("PUT", "/api/v1/action_configs/own?owner=bundle", &noop_on("own", "x"))
            .await;
        assert_eq!((refused.0, &refused.1["error"]["args"]["owner"]), (409, &json!("api")));
        let path = "/api/v1/action_configs/own?owner=bundle&take_over=true";
        assert_eq!(world.send("PUT", path, &noop_on("own", "x")).await.1["owner"], "bundle");
        assert_eq!(
            world.send("DELETE", "/api/v1/action_configs/a?owner=bundle", &json!({})).await.0,
            409
        );
    });
}
