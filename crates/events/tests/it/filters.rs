//! Hazard: a filter is SQL, or an error 500, or runs for ever.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use store::testing::run;

use crate::harness::World;

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn filters_find_what_they_say() {
    run(async {
        let world = World::fresh().await;
        for n in 0..10 {
            let params = json!({"n": n, "t": if n % 2 == 0 { "even" } else { "odd" }, "o": {"k": format!("v{n}")}, "in": n});
            world.event(if n < 8 { "a" } else { "b" }, params).await;
        }
        let found = async |query: &str| -> Vec<i64> {
            let (status, answer) = world.get(&format!("/api/v1/events?{query}")).await;
            assert_eq!(status, 200, "{query}: {answer}");
            answer["result"].as_array().unwrap().iter().map(|e| e["params"]["n"].as_i64().unwrap()).collect()
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
        let (_, counted) = world.get("/api/v1/events?params__t=odd&count=true&limit=1&offset=").await;
        assert_eq!((&counted["total"], counted["result"].as_array().unwrap().len()), (&json!(5), 1));
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
fn odd_filters_are_refused_or_find_nothing() {
    run(async {
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
    run(async {
        let world = World::fresh().await;
        // Each row costs a while to look at.
        sqlx::query(
            "INSERT INTO events (event_id, name, params, author, time_created, config_version)
             SELECT event_id_at(now()) + n, 'e', jsonb_build_object('x', repeat('y', 100000)), 'a', now(), 1
             FROM generate_series(1, 60) AS n",
        )
        .execute(&world.pool)
        .await
        .unwrap();
        sqlx::query("ALTER TABLE events RENAME TO events_as_they_are").execute(&world.pool).await.unwrap();
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
    run(async {
        let world = World::fresh().await;
        world.event("e", json!({"x": 1, "a": {"b": ["c", null, 1.5]}, "": {"": "'"}, "__": 7})).await;
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
    run(async {
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
            let request =
                axum::http::Request::post("/api/v1/events").header("Content-Type", "application/json");
            let (status, told) = world.ask(request.body(body.into()).unwrap()).await;
            assert_eq!((status, &told["error"]["code"]), (400, &json!("VALIDATION_ERROR")), "{told}");
            let args = told["error"]["args"].as_object().unwrap();
            assert!(args.keys().any(|name| name.starts_with(field)), "{field}: {told}");
            assert!(told["error"]["message"].as_str().unwrap().len() < 3000, "{field}: a long message");
        }
        // Names within the params may be as long as they like, and are found by them.
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
