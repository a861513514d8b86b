//! Hazard: untrusted input is expensive, is misinterpreted, or loses its lock guard on the way.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Request;
use serde_json::{Value, json};
use store::testing::run_test;

use crate::harness::{Served, event};

const DT: &str = "2024-02-29T12:00:00Z";

fn refused((status, answer): (u16, Value), field: &str) {
    assert_eq!(
        (status, &answer["error"]["code"]),
        (400, &json!("VALIDATION_ERROR")),
        "{field}: {answer}"
    );
    assert!(answer["error"]["args"][field].is_string(), "{field}: {answer}");
}

#[test]
fn very_many_attributes_are_refused_at_once() {
    run_test(async {
        let served = Served::fresh().await;
        let many: serde_json::Map<_, _> =
            (0..150_000).map(|n| (format!("attribute{n}"), json!(1))).collect();
        let lock =
            json!({"type": "storage_lock", "attributes": many, "mode": "shared", "ttl_seconds": 1});
        let state = json!({"type": "storage_state", "attributes": many, "state": {}});
        let mut written = event("a", 1, DT, "1");
        written["attributes"] = many.into();
        let calls = [
            ("/v1/events", json!({"events": [written]})),
            ("/v1/batch", json!({"events": [written]})),
            ("/v1/batch", json!({"states": [state]})),
            ("/v1/locks", lock),
        ];
        for (path, body) in calls {
            let (body, began) = (body.to_string(), Instant::now());
            let (status, answer) = served.post_text(path, body).await;
            assert_eq!(
                (status, &answer["error"]["code"]),
                (400, &json!("VALIDATION_ERROR")),
                "{answer}"
            );
            assert!(answer.to_string().contains("more than 32 attributes"), "{answer}");
            assert!(began.elapsed() < Duration::from_secs(1), "{path}: {:?}", began.elapsed());
        }
    });
}

#[test]
fn a_guard_that_is_null_empty_or_in_the_wrong_place_is_an_error() {
    run_test(async {
        let served = Served::fresh().await;
        let events = json!([event("a", 1, DT, "1")]);
        let put = |version: Value| json!([{"type": "storage_state", "attributes": {"storage_id": 1}, "state": {}, "expected_version": version}]);
        let lock = |request: Value| json!({"type": "storage_lock", "attributes": {"storage_id": 1}, "mode": "shared", "ttl_seconds": 1, "request_id": request});
        for guard in [json!(null), json!("")] {
            refused(
                served.post("/v1/events", &json!({"events": events, "lock_id": guard})).await,
                "lock_id",
            );
            refused(
                served.post("/v1/batch", &json!({"events": events, "lock_id": guard})).await,
                "lock_id",
            );
            refused(
                served.post("/v1/batch", &json!({"states": put(guard.clone())})).await,
                "states[0].expected_version",
            );
            refused(served.post("/v1/locks", &lock(guard.clone())).await, "request_id");
        }
        for path in ["/v1/events?lock_id=x", "/v1/batch?lock_id=x", "/v1/events?lock_id="] {
            refused(served.post(path, &json!({"events": events})).await, "lock_id");
        }
        refused(
            served.post("/v1/events?dry_run=true", &json!({"events": events})).await,
            "dry_run",
        );
        refused(served.post("/v1/locks?request_id=r", &lock("r".into())).await, "request_id");
        refused(served.get("/v1/shards?x=1").await, "x");
        refused(served.get("/v1/types?x=1").await, "x");
        assert_eq!(served.events().await, 0, "nothing was written");
        // Other null fields count as omitted.
        let (status, answer) =
            served.post("/v1/batch", &json!({"events": events, "states": null})).await;
        assert_eq!(status, 200, "{answer}");
    });
}

#[test]
fn what_is_not_utf8_is_no_attribute_and_no_name() {
    run_test(async {
        let served = Served::fresh().await;
        for bad in ["%FF", "1%FC", "%C3", "1%", "%zz"] {
            for path in [
                "balances/storage_outflow",
                "turnovers/storage_outflow",
                "events/storage_outflow",
                "states/storage_state",
            ] {
                refused(served.get(&format!("/v1/{path}?storage_id={bad}")).await, "storage_id");
            }
            let put = Request::put(format!("/v1/states/storage_state?storage_id={bad}"))
                .header("Content-Type", "application/json");
            refused(served.ask(put.body("{}".into()).unwrap()).await, "storage_id");
            refused(served.get(&format!("/v1/feed/s0?after={bad}")).await, "after");
        }
        let (status, _) = served.get("/v1/balances/%FF").await;
        assert_eq!(status, 400);
    });
}

#[test]
fn a_forged_page_token_is_refused() {
    run_test(async {
        let served = Served::fresh().await;
        let events = [event("a", 1, DT, "1"), event("b", 1, DT, "1")];
        served.write(&events).await;
        let listing = "/v1/events/storage_outflow?storage_id=1&limit=1";
        let (_, page) = served.get(listing).await;
        let token = page["next_page_token"].as_str().unwrap();
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).unwrap()).unwrap();
        let account = text.split(' ').next().unwrap();
        for forged in [
            format!("{account} 8210266876799999999 a"),
            format!("{account} -9223372036854775808 a"),
            format!("{account} 253402300800000000 a"),
            format!("{account} 1709208000000000 a\0b"),
            format!("{account} 1709208000000000 {}", "x".repeat(257)),
            format!("{account} x a"),
            "1 1709208000000000 a".to_owned(),
        ] {
            let token = URL_SAFE_NO_PAD.encode(&forged);
            refused(served.get(&format!("{listing}&page_token={token}")).await, "page_token");
        }
        let groups = "/v1/balances/storage_outflow?storage_id=1&group_by=product_id";
        for forged in [r#"{"question":"0","from":null,"to":0,"last":["v"]}"#, "{}", "x"] {
            let token = URL_SAFE_NO_PAD.encode(forged);
            refused(served.get(&format!("{groups}&page_token={token}")).await, "page_token");
        }
        assert_eq!(served.get(&format!("{listing}&page_token={token}")).await.0, 200);
    });
}
