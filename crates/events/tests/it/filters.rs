//! Hazard: a filter is SQL, or an error 500, or runs for ever.

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
