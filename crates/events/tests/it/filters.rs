//! Hazard: SQL injection by a filter, an error 500, or an unbounded query.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use store::testing::run_test;

use crate::harness::World;

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn filters_find_what_they_say() {
    run_test(async {
        let world = World::fresh().await;
        for n in 0..10 {
            let params = json!({"n": n, "t": if n % 2 == 0 { "even" } else { "odd" }, "o": {"k": format!("v{n}")}, "in": n});
            world.event(if n < 8 { "a" } else { "b" }, params).await;
        }
        let found = async |query: &str| -> Vec<i64> {
            let (status, answer) = world.get(&format!("/api/v1/events?{query}")).await;
            assert_eq!(status, 200, "{query}: {answer}");
            answer["result"]
                .as_array()
                .unwrap()
                .iter()
                .map(|e| e["params"]["n"].as_i64().unwrap())
                .collect()
        };
        for (query, expected) in [
            ("name=a&sort=_id", vec![0, 1, 2, 3, 4, 5, 6, 7]),
            ("name=b&sort=-_id", vec![9, 8]),
            ("name=a&params__t=odd&sort=-_id&limit=2", vec![7, 5]),
            ("name=a&params__t=odd&sort=_id&limit=2&offset=1", vec![3, 5]),
            ("params__o__k=v3", vec![3]),
            ("params__n=3", vec![3]),
            ("params__n__in=3,4&sort=_id", vec![3, 4]),
            ("params__in__in=3,4&sort=_id", vec![3, 4]),
            ("params__in=3", vec![3]),
            ("params__n__gt=7&sort=_id", vec![8, 9]),
            ("params__n__lt=1.5&sort=time_created", vec![0, 1]),
            ("params__o__k__gt=v8", vec![9]),
            ("name__in=b,c&sort=_id", vec![8, 9]),
            ("params__x=1", vec![]),
            ("params__t__x=even", vec![]),
            ("author=anonymous&limit=1&sort=_id", vec![0]),
            ("time_created__gt=2020-01-01T00:00:00Z&limit=1&sort=_id", vec![0]),
            ("time_created__gt=2999-01-01T00:00:00Z", vec![]),
            ("time_created__lt=2020-01-01T00:00:00%2B01:00", vec![]),
        ] {
            assert_eq!(found(query).await, expected, "{query}");
        }
        let (_, counted) =
            world.get("/api/v1/events?params__t=odd&count=true&limit=1&offset=").await;
        assert_eq!(
            (&counted["total"], counted["result"].as_array().unwrap().len()),
            (&json!(5), 1)
        );
        let (_, answer) = world.get("/api/v1/events?limit=1&sort=_id").await;
        let event = answer["result"][0].as_object().unwrap();
        let members: Vec<&str> = event.keys().map(String::as_str).collect();
        assert_eq!(members, ["_id", "name", "params", "author", "time_created"]);
        let id = event["_id"].as_str().unwrap();
        assert_eq!(found(&format!("_id={id}")).await, [0]);
        assert_eq!(found(&format!("_id__gt={id}&sort=_id&limit=1")).await, [1]);
    });
}

#[test]
fn numbers_are_compared_exactly_and_names_may_hold_underscores() {
    run_test(async {
        let world = World::fresh().await;
        let numbers =
            json!([9007199254740991_i64, 9007199254740992_i64, 9007199254740993_i64, 1000.0, 0.1]);
        for number in numbers.as_array().unwrap() {
            world.event("e", json!({"v": number, "o": {"v": number}})).await;
        }
        world.event("e", json!({"v": "1000"})).await;
        world
            .event(
                "f",
                json!({"a__b": 1, "c": {"d__e": {"g": 2}}, "h__i": {"j": 3}, "k": {"l": 4}}),
            )
            .await;
        let found = async |query: &str| -> Vec<Value> {
            let (status, answer) = world.get(&format!("/api/v1/events?sort=_id&{query}")).await;
            assert_eq!(status, 200, "{query}: {answer}");
            answer["result"]
                .as_array()
                .unwrap()
                .iter()
                .map(|event| event["params"]["v"].clone())
                .collect()
        };
        for path in ["v", "o__v"] {
            for (comparison, expected) in [
                ("__gt=9007199254740992", vec![json!(9007199254740993_i64)]),
                (
                    "__lt=9007199254740992&params__v__gt=9007199254740990.5",
                    vec![json!(9007199254740991_i64)],
                ),
                ("=9007199254740992", vec![json!(9007199254740992_i64)]),
                ("=9007199254740992.0", vec![json!(9007199254740992_i64)]),
                ("__in=9007199254740993,1e-1", vec![json!(9007199254740993_i64), json!(0.1)]),
            ] {
                assert_eq!(
                    found(&format!("params__{path}{comparison}")).await,
                    expected,
                    "{path}{comparison}"
                );
            }
        }
        assert_eq!(found("params__o__v=1000").await, [json!(1000.0)]);
        assert_eq!(found("params__v=1000").await, [json!(1000.0), json!("1000")]);
        for query in [
            "params__a__b=1",
            "params__c__d__e__g=2",
            "params__h__i__j=3",
            "params__k__l=4",
            "params__a__b__gt=0",
        ] {
            assert_eq!(found(query).await.len(), 1, "{query}");
        }
        for query in ["params__a=1", "params__c__d=2", "params__h__i=3", "params__a__b=2"] {
            assert_eq!(found(query).await.len(), 0, "{query}");
        }
        // Conditions compare numbers the same way.
        let on = |value: Value| json!([{"event": "e", "params": {"v": value}}]);
        for (name, value) in
            [("whole", json!(1000)), ("next", json!(9007199254740993_i64)), ("power", json!(1e16))]
        {
            world.config(json!({"name": name, "on": on(value), "action": {"task": "noop"}})).await;
        }
        for (value, config) in [
            (json!(1000.0), "whole"),
            (json!(9007199254740993_i64), "next"),
            (json!(10_000_000_000_000_000_i64), "power"),
        ] {
            let event = world.event("e", json!({"v": value})).await;
            assert_eq!(
                world.started(&event).await.into_iter().map(|(name, _)| name).collect::<Vec<_>>(),
                [config]
            );
        }
    });
}

#[test]
fn a_number_that_could_not_be_kept_is_refused_with_its_place() {
    run_test(async {
        let world = World::fresh().await;
        let send = async |path: &str, body: String| {
            let request =
                axum::http::Request::post(path).header("Content-Type", "application/json");
            world.ask(request.body(body.into()).unwrap()).await
        };
        for (path, body, field) in [
            (
                "/api/v1/events",
                r#"{"name": "e", "params": {"a": [{"b": 123456789012345678901234567890}]}}"#,
                "params.a[0].b",
            ),
            (
                "/api/v1/events",
                r#"[{"name": "e"}, {"name": "e", "params": {"a": 0.1234567890123456789012}}]"#,
                "[1].params.a",
            ),
            ("/task/status?taskType=t&taskStatus=s", r#"{"a": 18446744073709551617}"#, "a"),
            (
                "/api/v1/tasks",
                r#"{"task_type": "noop", "params": {"note": 123456789012345678901234567890}}"#,
                "params.note",
            ),
            (
                "/api/v1/action_configs",
                r#"{"name": "c", "on": [{"event": "e", "params": {"a": 9007199254740993.0}}], "action": {"task": "noop"}}"#,
                "on[0].params.a",
            ),
        ] {
            let (status, told) = send(path, body.to_owned()).await;
            assert_eq!(status, 400, "{path}: {told}");
            let said = told["error"]["args"][field].as_str().unwrap_or_default();
            assert!(said.contains("cannot be kept exactly"), "{field}: {told}");
        }
        assert_eq!(world.count("SELECT count(*) FROM events").await, 0);
        let (status, sent) = send(
            "/api/v1/events",
            r#"{"name": "e", "params": {"a": 18446744073709551615, "b": 0.30000000000000004}}"#
                .to_owned(),
        )
        .await;
        assert_eq!(status, 201, "{sent}");
        let (_, found) = world.get("/api/v1/events?params__a=18446744073709551615").await;
        assert_eq!(
            found["result"][0]["params"],
            json!({"a": 18446744073709551615_u64, "b": 0.30000000000000004})
        );
    });
}

#[test]
fn what_is_null_counts_as_left_out() {
    run_test(async {
        let world = World::fresh().await;
        for body in [
            json!({"name": "e", "params": null}),
            json!([{"name": "e", "params": null, "event_key": null, "author": null}]),
        ] {
            let (status, told) = world.send("POST", "/api/v1/events", &body).await;
            assert_eq!(status, 201, "{told}");
        }
        let (status, told) = world
            .send(
                "POST",
                "/api/v1/tasks",
                &json!({"task_type": "noop", "params": null, "task_key": null}),
            )
            .await;
        assert_eq!(status, 201, "{told}");
        let config = json!({"name": "c", "description": null, "author": null, "enabled": null, "on": [{"event": "e", "params": null}],
            "join": null, "action": {"task": "noop", "params": null, "max_attempts": null, "priority": null, "concurrency_key": null}});
        let (status, told) = world.send("POST", "/api/v1/action_configs", &config).await;
        assert!(status == 201 && told["enabled"] == true, "{told}");
    });
}

#[test]
fn odd_filters_are_refused_or_find_nothing() {
    run_test(async {
        let world = World::fresh().await;
        world.event("e", json!({"x": "1"})).await;
        let long = "n".repeat(10_000);
        let deep = vec!["a"; 500].join("__");
        for (name, value) in [
            ("params__x') or 1=1--", "1"),
            ("params__x' or '1'='1", "1"),
            ("params__x\"}'::jsonb or true--", "1"),
            ("params__x", "1') or true--"),
            ("params__x__gt", "1e999"),
            ("params__x__gt", "NaN"),
            ("params__x__lt", "-Infinity"),
            ("params__$1", "$2"),
            ("params__x{a,b}", "1"),
            ("params__\u{0}", "1"),
            ("params__x", "\u{0}"),
            ("params__\u{1F600}", "\u{FFFD}"),
            ("name", "\u{0}"),
            ("name'--", "1"),
            ("author__gt", "\u{1F600}' or true"),
            ("_id", "x' or true"),
            ("time_created__gt", "yesterday"),
            ("time_created__gt", "9999999999999-01-01T00:00:00Z"),
            ("time_created__lt", "9999-12-31T23:59:59-23:59"),
            ("time_created__lt", "0001-01-01T00:00:00Z"),
            ("sort", "_id; drop table events"),
            ("limit", "1; drop table events"),
            ("limit", "99999999999999999999"),
            ("offset", "9223372036854775807"),
            (&format!("params__{long}"), "1"),
            (&format!("params__{deep}"), "1"),
            ("params__x__in", &",".repeat(5000)),
            ("params____", ""),
            ("params__", ""),
            (&long, &long),
        ] {
            let (status, answer) =
                world.get(&format!("/api/v1/events?{}={}", encoded(name), encoded(value))).await;
            let empty = status == 200 && answer["result"] == json!([]);
            let refused = status == 400 && answer["error"]["code"] == "VALIDATION_ERROR";
            assert!(empty || refused, "{name}={value}: {status} {answer}");
        }
        let many = (0..200).map(|n| format!("params__p{n}=1&")).collect::<String>();
        assert_eq!(world.get(&format!("/api/v1/events?{many}")).await.0, 400);
        assert_eq!(
            world.get("/api/v1/events?params__x=1").await.1["result"].as_array().map(Vec::len),
            Some(1)
        );
    });
}

#[test]
fn a_query_that_looks_for_too_long_is_refused_naming_what_helps() {
    run_test(async {
        let world = World::fresh().await;
        // Each row is expensive to evaluate.
        sqlx::query(
            "INSERT INTO events (event_id, name, params, author, time_created, config_version)
             SELECT event_id_at(now()) + n, 'e', jsonb_build_object('x', repeat('y', 100000)), 'a', now(), 1
             FROM generate_series(1, 60) AS n",
        )
        .execute(&world.pool)
        .await
        .unwrap();
        sqlx::query("ALTER TABLE events RENAME TO events_as_they_are")
            .execute(&world.pool)
            .await
            .unwrap();
        sqlx::query(
            "CREATE VIEW events AS SELECT event_id, name, params, author, time_created, config_version, task_id, depth
             FROM (SELECT *, pg_sleep(0.1)::text AS slept FROM events_as_they_are OFFSET 0) AS slow WHERE slept = ''",
        )
        .execute(&world.pool)
        .await
        .unwrap();
        let (status, told): (u16, Value) = world.get("/api/v1/events?params__x=z").await;
        assert_eq!((status, &told["error"]["code"]), (400, &json!("VALIDATION_ERROR")), "{told}");
        assert!(told["error"]["args"]["time_created__gt"].is_string(), "{told}");
    });
}

#[test]
fn no_filter_made_of_odd_pieces_is_an_error_of_ours() {
    run_test(async {
        let world = World::fresh().await;
        world
            .event("e", json!({"x": 1, "a": {"b": ["c", null, 1.5]}, "": {"": "'"}, "__": 7}))
            .await;
        let name = prop::collection::vec(
            prop::sample::select(vec![
                "params__",
                "__",
                "x",
                "a",
                "b",
                "0",
                "-1",
                "__in",
                "__gt",
                "__lt",
                "name",
                "_id",
                "time_created",
                "author",
                "'",
                "\"",
                "\\",
                "{",
                "}",
                ",",
                "$1",
                "--",
                "/*",
                ";",
                "%",
                "\u{0}",
                "\u{202e}",
                "\u{1F600}",
                " ",
                "é",
            ]),
            1..6,
        );
        let value = prop_oneof![
            any::<String>(),
            any::<f64>().prop_map(|number| number.to_string()),
            any::<i64>().prop_map(|number| number.to_string()),
            prop::sample::select(vec![
                "1e308",
                "1e-400",
                "1e999999",
                "-0",
                "0x10",
                "infinity",
                "NaN",
                "",
                ",",
                "null",
                "true",
                "[1]",
                "{}",
                "1,2,x",
                "2026-11-25",
                "2026-02-30T00:00:00Z",
                "2026-11-25T00:00:60Z",
                "-infinity",
                "epoch",
                "now",
                "294277-01-01T00:00:00Z",
                "0000000000000001",
                "7fffffffffffffff",
                "ffffffffffffffff",
            ])
            .prop_map(str::to_owned),
        ];
        let (mut runner, asked) = (TestRunner::deterministic(), (name, value));
        for _ in 0..400 {
            let (name, value) = asked.new_tree(&mut runner).unwrap().current();
            let query = format!("{}={}&count=true", encoded(&name.concat()), encoded(&value));
            let (status, answer) = world.get(&format!("/api/v1/events?{query}")).await;
            assert!(status == 200 || status == 400, "{name:?}={value:?}: {status} {answer}");
        }
    });
}

#[test]
fn odd_events_are_refused_by_the_name_of_what_is_wrong() {
    run_test(async {
        let world = World::fresh().await;
        let long = "n".repeat(10_000);
        let nested = |levels: usize| {
            let inner = (0..levels).fold("1".to_owned(), |inner, _| format!("{{\"a\":{inner}}}"));
            format!("{{\"name\":\"e\",\"params\":{{\"p\":{inner}}}}}")
        };
        for (body, field) in [
            (json!({"name": long}).to_string(), "name"),
            (json!({"name": "e", "event_key": long}).to_string(), "event_key"),
            (json!({"name": "e", "author": long}).to_string(), "author"),
            (json!({long.as_str(): 1}).to_string(), "nnnn"),
            (json!({"name": "e", "params": {long.as_str(): "\u{0}"}}).to_string(), "params"),
            (json!({"name": "a\u{0}b"}).to_string(), "name"),
            (json!({"name": ""}).to_string(), "name"),
            (json!({"name": "e", "params": {"a": {"b\u{0}": 1}}}).to_string(), "params"),
            (nested(40), "params"),
            (nested(100_000), "params"),
            (r#"{"name":"e","params":{"n":1e999}}"#.to_owned(), "params"),
            (r#"{"name":"e","params":{"s":"\ud800"}}"#.to_owned(), "params"),
        ] {
            let request = axum::http::Request::post("/api/v1/events")
                .header("Content-Type", "application/json");
            let (status, told) = world.ask(request.body(body.into()).unwrap()).await;
            assert_eq!(
                (status, &told["error"]["code"]),
                (400, &json!("VALIDATION_ERROR")),
                "{told}"
            );
            let args = told["error"]["args"].as_object().unwrap();
            assert!(args.keys().any(|name| name.starts_with(field)), "{field}: {told}");
            assert!(
                told["error"]["message"].as_str().unwrap().len() < 3000,
                "{field}: a long message"
            );
        }
        // Param names have no length limit, and filters find them.
        let id = world.event("e", json!({long.as_str(): "x"})).await;
        let (_, found) = world.get(&format!("/api/v1/events?params__{long}=x")).await;
        assert_eq!(found["result"][0]["_id"], json!(id));
        let large = json!({"name": "e", "params": {"a": "x".repeat(300 << 10)}});
        assert_eq!(world.send("POST", "/api/v1/events", &large).await.0, 413);
        for name in [long.as_str(), "a%00b", "..", "%F0%9F%98%80"] {
            assert_eq!(world.get(&format!("/api/v1/action_configs/{name}")).await.0, 404);
            assert_eq!(world.get(&format!("/api/v1/tasks/{name}")).await.0, 404);
            assert_eq!(world.get(&format!("/api/v1/event_story/{name}")).await.0, 404);
        }
        assert_eq!(
            world.get(&format!("/api/v1/action_configs?event={long}")).await,
            (200, json!({"result": []}))
        );
        assert_eq!(
            world.get(&format!("/api/v1/tasks?action_config={long}")).await,
            (200, json!({"result": []}))
        );
        assert_eq!(world.count("SELECT count(*) FROM events").await, 1);
    });
}
