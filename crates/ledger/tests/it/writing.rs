//! Promise: an event is stored once, however often it is repeated, and a conflict prevents its
//! whole shard's part from being stored.

use serde_json::json;

use crate::harness::{Served, event};

const DT: &str = "2024-02-29T12:00:00Z";

#[test]
fn the_same_again_is_a_duplicate() {
    store::testing::run_test(async {
        let served = Served::fresh().await;
        let events =
            [event("a", 1, DT, "12.50"), event("b", 2, DT, "1"), event("a", 1, DT, "12.5")];
        assert_eq!(
            served.write(&events).await,
            (200, ["created", "created", "duplicate"].map(str::to_owned).into())
        );
        assert_eq!(served.write(&events).await, (200, vec!["duplicate".to_owned(); 3]));
        // Another spelling of the same content.
        let spelled = json!({"debit": "12.500", "info": null, "attributes": {"storage_id": 1, "product_id": null},
            "dt": "2024-02-29T15:00:00.000+03:00", "event_id": "a", "type": "storage_outflow"});
        assert_eq!(served.write(&[spelled]).await.1, ["duplicate"]);
        assert_eq!(served.events().await, 2);
    });
}

#[test]
fn other_content_is_a_conflict_and_nothing_of_that_part_is_written() {
    store::testing::run_test(async {
        let served = Served::fresh().await;
        // Storages 1 and 3 are on different shards.
        served.write(&[event("old", 1, DT, "1")]).await;
        let events = [
            event("new", 1, DT, "1"),
            event("old", 1, DT, "2"),
            event("other", 3, DT, "1"),
            event("old", 1, DT, "1"),
        ];
        let (code, statuses) = served.write(&events[..3]).await;
        assert_eq!(
            (code, &statuses[..]),
            (409, &["not_written", "conflict", "created"].map(str::to_owned)[..])
        );
        // Two contents for one id in one call.
        let (code, statuses) =
            served.write(&[events[0].clone(), events[3].clone(), events[1].clone()]).await;
        assert_eq!(
            (code, &statuses[..]),
            (409, &["not_written", "duplicate", "conflict"].map(str::to_owned)[..])
        );
        assert_eq!(served.events().await, 2);
        // An event that was not written can be written later.
        assert_eq!(served.write(&events[..1]).await, (200, vec!["created".to_owned()]));
        let (_, answer) = served.get("/v1/balances/storage_outflow?storage_id=1").await;
        assert_eq!(answer["groups"][0]["balance"], "2");
    });
}

#[test]
fn a_call_that_contradicts_itself_is_told_so_and_what_is_there() {
    store::testing::run_test(async {
        let served = Served::fresh().await;
        served.write(&[event("a", 1, DT, "1")]).await;
        let x = |debit: &str| event("x", 1, DT, debit);
        let call = json!({"events": [event("a", 1, DT, "1.0"), x("1"), x("2"), x("1")]});
        let told = ["duplicate", "not_written", "conflict", "not_written"];
        for path in ["/v1/events", "/v1/batch"] {
            let (code, answer) = served.post(path, &call).await;
            let statuses: Vec<_> =
                answer["results"].as_array().unwrap().iter().map(|r| r["status"].clone()).collect();
            assert_eq!(
                (code, &answer["error"]["code"]),
                (409, &json!("CONFLICT")),
                "{path}: {answer}"
            );
            assert_eq!(statuses, told, "{path}: {answer}");
            let message = answer["error"]["message"].as_str().unwrap();
            assert!(
                message.contains("`x` is twice in this call, with different content"),
                "{path}: {message}"
            );
        }
        assert_eq!(served.events().await, 1);
        // The stored event decides which of the two contents conflicts.
        served.write(&[x("2")]).await;
        let (_, answer) = served.post("/v1/events", &call).await;
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains("`x` is there with other content"), "{message}");
        let statuses: Vec<_> =
            answer["results"].as_array().unwrap().iter().map(|r| &r["status"]).collect();
        assert_eq!(statuses, ["duplicate", "conflict", "duplicate", "conflict"]);
    });
}

#[test]
fn many_at_once_share_commits_and_each_event_is_created_once() {
    store::testing::run_test(async {
        let served = Served::fresh().await;
        let calls = (0..64).map(|call| {
            let served = served.clone();
            tokio::spawn(async move {
                // Each event occurs in four calls, with different other events; every fifth call
                // has a conflict.
                let mut events: Vec<_> = (0..50)
                    .map(|n| event(&format!("{}", (call % 16) * 50 + n), n % 7, DT, "1"))
                    .collect();
                if call % 5 == 0 {
                    events.push(event(&format!("bad {call}"), 1, DT, "1"));
                    events.push(event(&format!("bad {call}"), 1, DT, "2"));
                }
                served.write(&events).await
            })
        });
        let mut created = 0;
        for call in futures::future::join_all(calls).await {
            let (code, statuses) = call.unwrap();
            assert!(code == 200 || code == 409);
            created += statuses.iter().filter(|status| *status == "created").count();
        }
        assert_eq!((created, served.events().await), (800, 800));
    });
}

/// An event as a JSON array of its members' values.
const LISTED: &str = r#"{"events": [["storage_outflow", "listed", "2024-02-29T12:00:00Z", {"storage_id": 1}, "1", null, null]]}"#;

#[test]
fn bad_events_change_nothing_and_are_named() {
    store::testing::run_test(async {
        let served = Served::fresh().await;
        let good = event("good", 1, DT, "1");
        let with = |name: &str, value: serde_json::Value| {
            let mut event = event("bad", 1, DT, "1");
            event[name] = value;
            event
        };
        let deep = (0..40).fold(json!({}), |inner, _| json!({"a": inner}));
        let cases = [
            (with("debit", json!(1)), "events[1].debit"),
            (with("debit", json!("1e3")), "events[1].debit"),
            (with("credit", json!("1")), "events[1].debit"),
            (with("type", json!("nothing")), "events[1].type"),
            (with("event_id", json!("")), "events[1].event_id"),
            (with("dt", json!("2024-02-29")), "events[1].dt"),
            (with("dt", json!("1969-12-31T23:59:59Z")), "events[1].dt"),
            (
                with("attributes", json!({"storage_id": 1, "color": 1})),
                "events[1].attributes.color",
            ),
            (with("attributes", json!({})), "events[1].attributes.storage_id"),
            (with("attributes", json!({"storage_id": "1"})), "events[1].attributes.storage_id"),
            (with("attributes", json!({"storage_id": 1.0})), "events[1].attributes.storage_id"),
            (with("info", json!([])), "events[1].info"),
            (with("info", deep), "events[1].info"),
            (with("colour", json!(1)), "events[1].colour"),
            (json!({"type": "storage_outflow"}), "events[1].event_id"),
            (json!(7), "events[1]"),
        ];
        for (bad, field) in cases {
            let (code, answer) = served.post("/v1/events", &json!({"events": [good, bad]})).await;
            assert_eq!(
                (code, &answer["error"]["code"]),
                (400, &json!("VALIDATION_ERROR")),
                "{bad}"
            );
            assert!(answer["error"]["args"].get(field).is_some(), "{field}: {answer}");
        }
        for bad in [
            "",
            "{",
            "[]",
            "null",
            "{\"events\": [}",
            "{\"events\": []} 1",
            "{\"event\": []}",
            LISTED,
        ] {
            assert_eq!(served.post_text("/v1/events", bad.to_owned()).await.0, 400, "{bad}");
        }
        let (code, answer) = served.post_text("/v1/events", " ".repeat(9 << 20)).await;
        assert_eq!((code, &answer["error"]["code"]), (413, &json!("TOO_LARGE")));
        assert_eq!(served.events().await, 0);
    });
}

#[test]
fn any_month_can_be_written_and_a_dropped_partition_comes_back() {
    store::testing::run_test(async {
        let served = Served::fresh().await;
        let dts = [
            "1970-01-01T00:00:00Z",
            "2100-12-31T23:59:59.999999Z",
            "2024-03-01T00:00:00Z",
            "2024-02-29T23:59:59.999999Z",
        ];
        let events: Vec<_> =
            dts.iter().map(|dt| event(dt, 1, dt, "999999999999999.999999999")).collect();
        assert_eq!(served.write(&events).await.0, 200);
        let (_, answer) =
            served.get("/v1/events/storage_outflow?storage_id=1&to=2999-01-01T00:00:00Z").await;
        let listed: Vec<_> =
            answer["events"].as_array().unwrap().iter().map(|event| event["dt"].clone()).collect();
        assert_eq!(listed, [dts[0], dts[3], dts[2], dts[1]].map(|dt| json!(dt)));
        for shard in served.ledger.shards.all() {
            sqlx::query("DROP TABLE IF EXISTS events_2024_03").execute(&shard.pool).await.unwrap();
        }
        assert_eq!(served.write(&[event("again", 1, dts[2], "1")]).await.0, 200);
    });
}
