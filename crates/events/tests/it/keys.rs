//! Hazard: an event sent twice is stored twice; a batch is written partially.

use serde_json::json;
use store::testing::run_test;

use crate::harness::World;

#[test]
fn a_key_is_one_event_however_often_and_by_however_many() {
    run_test(async {
        let world = World::fresh().await;
        let body = json!({"name": "e", "params": {"a": 1, "b": [1, {"c": 2}]}, "event_key": "k"});
        let (created, first) = world.send("POST", "/api/v1/events", &body).await;
        assert_eq!(created, 201, "{first}");
        let sending: Vec<_> = (0..24)
            .map(|_| {
                let (world, body) = (world.clone(), body.clone());
                tokio::spawn(async move { world.send("POST", "/api/v1/events", &body).await })
            })
            .collect();
        for sent in sending {
            assert_eq!(sent.await.unwrap(), (200, first.clone()));
        }
        // Another JSON spelling of the same content.
        let same =
            json!({"event_key": "k", "params": {"b": [1.0, {"c": 2}], "a": 1.0}, "name": "e"});
        assert_eq!(world.send("POST", "/api/v1/events", &same).await, (200, first.clone()));
        for other in [
            json!({"name": "f", "params": body["params"], "event_key": "k"}),
            json!({"name": "e", "params": {"a": 2}, "event_key": "k"}),
        ] {
            let (status, told) = world.send("POST", "/api/v1/events", &other).await;
            assert_eq!((status, &told["error"]["code"]), (409, &json!("CONFLICT")));
            assert_eq!(told["error"]["args"]["_id"], first["_id"]);
        }
        assert_eq!(world.count("SELECT count(*) FROM events").await, 1);
    });
}

#[test]
fn a_key_sent_by_many_at_the_same_moment_is_one_event() {
    run_test(async {
        let world = World::fresh().await;
        let sending: Vec<_> = (0..32)
            .map(|n| {
                let world = world.clone();
                let body = json!({"name": "e", "params": {"n": n % 2}, "event_key": "k"});
                tokio::spawn(async move { world.send("POST", "/api/v1/events", &body).await.0 })
            })
            .collect();
        let mut statuses = Vec::new();
        for sent in sending {
            statuses.push(sent.await.unwrap());
        }
        let count = |status| statuses.iter().filter(|given| **given == status).count();
        assert_eq!((count(201), count(200), count(409)), (1, 15, 16), "{statuses:?}");
    });
}

#[test]
fn a_batch_is_all_or_nothing_and_in_order() {
    run_test(async {
        let world = World::fresh().await;
        let event =
            |n: i64, key: Option<&str>| json!({"name": "e", "params": {"n": n}, "event_key": key});
        let batch =
            json!([event(0, None), event(1, Some("a")), event(2, None), event(1, Some("a"))]);
        let (status, ids) = world.send("POST", "/api/v1/events", &batch).await;
        assert_eq!(status, 201, "{ids}");
        let ids: Vec<&str> =
            ids.as_array().unwrap().iter().map(|id| id["_id"].as_str().unwrap()).collect();
        assert!(ids[0] < ids[1] && ids[1] < ids[2] && ids[3] == ids[1], "{ids:?}");
        let refused = json!([event(5, None), event(6, Some("a"))]);
        let (status, told) = world.send("POST", "/api/v1/events", &refused).await;
        assert_eq!(
            (status, &told["error"]["args"]["field"]),
            (409, &json!("[1].event_key")),
            "{told}"
        );
        for (bad, field) in [
            (json!([event(7, None), {"name": "", "params": {}}]), "[1].name"),
            (json!([event(7, None), {"name": "x", "params": []}]), "[1].params"),
            (json!([event(7, None), {"name": "x", "parms": {}}]), "[1].parms"),
            (json!([event(7, None), 17]), "[1]"),
            (json!({"params": {}}), "name"),
            (json!({"name": "x", "params": {"a": "\u{0}"}}), "params"),
            (json!({"name": "x", "event_key": "\u{1}emit/1"}), "event_key"),
            (json!("x"), "body"),
        ] {
            let (status, told) = world.send("POST", "/api/v1/events", &bad).await;
            assert_eq!(status, 400, "{told}");
            assert!(told["error"]["args"][field].is_string(), "{field}: {told}");
        }
        assert_eq!(world.send("POST", "/api/v1/events", &json!([])).await, (201, json!([])));
        assert_eq!(world.count("SELECT count(*) FROM events").await, 3);
    });
}

#[test]
fn ids_sort_in_the_order_of_creation_also_over_replicas_and_when_the_clock_is_put_back() {
    run_test(async {
        let one = World::fresh().await;
        let two = World::on(one.pool.clone(), events::EventSettings::default()).await;
        // The first events, sent concurrently: no id may be from a time long past.
        let first: Vec<_> = (0..24)
            .map(|n| {
                let world = if n % 2 == 0 { one.clone() } else { two.clone() };
                tokio::spawn(async move { world.event("first", json!({})).await })
            })
            .collect();
        for sent in first {
            assert!(sent.await.unwrap().as_str() > "1000000000000000");
        }
        // As if the clock had been an hour ahead.
        sqlx::query("SELECT setval('event_ids', event_id_at(now() + interval '1 hour'))")
            .execute(&one.pool)
            .await
            .unwrap();
        let mut ids = Vec::new();
        for n in 0..20 {
            let world = if n % 3 == 0 { &two } else { &one };
            ids.push(world.event("e", json!({"n": n})).await);
        }
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
    });
}
