//! Lock routes: answers, and refusals that name the bad field.

use std::time::Duration;

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};
use store::testing::run_test;

use super::line_of;
use crate::harness::Served;

fn lock(with: Value) -> Value {
    let mut body = json!({"type": "storage_lock", "attributes": {"storage_id": 7}, "mode": "exclusive", "ttl_seconds": 60});
    body.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
    body
}

async fn send(served: &Served, method: &str, id: &str, body: Option<Value>) -> (u16, Value) {
    let request = Request::builder().method(method).uri(format!("/v1/locks/{id}"));
    let body = body.map_or_else(Body::empty, |body| body.to_string().into());
    served.ask(request.header("Content-Type", "application/json").body(body).unwrap()).await
}

#[test]
fn a_lock_from_its_grant_to_its_end() {
    run_test(async {
        let served = Served::fresh().await;
        let (code, held) =
            served.post("/v1/locks", &lock(json!({"owner": "me", "request_id": "r"}))).await;
        assert_eq!((code, held.as_object().unwrap().len()), (201, 3), "{held}");
        let id = held["lock_id"].as_str().unwrap();
        assert_eq!(
            served.post("/v1/locks", &lock(json!({"owner": "me", "request_id": "r"}))).await,
            (201, held.clone())
        );
        let (code, refused) = served.post("/v1/locks", &lock(json!({"mode": "shared"}))).await;
        assert_eq!((code, &refused["error"]["code"]), (423, &json!("LOCKED")));
        let args = json!({"owner": "me", "mode": "exclusive", "expires_at": held["expires_at"]});
        assert_eq!(refused["error"]["args"], args);

        let (code, extended) = send(&served, "PATCH", id, Some(json!({"ttl_seconds": 90.5}))).await;
        assert_eq!((code, &extended["fencing_token"]), (200, &held["fencing_token"]));
        let (code, seen) = send(&served, "GET", id, None).await;
        assert_eq!(code, 200);
        assert_eq!(
            seen,
            json!({"lock_id": id, "type": "storage_lock", "attributes": {"storage_id": 7}, "mode": "exclusive",
                "owner": "me", "fencing_token": held["fencing_token"], "expires_at": extended["expires_at"]})
        );
        assert_eq!(send(&served, "DELETE", id, None).await, (204, Value::Null));
        for (method, body) in
            [("PATCH", Some(json!({"ttl_seconds": 1}))), ("DELETE", None), ("GET", None)]
        {
            let (code, ended) = send(&served, method, id, body.clone()).await;
            assert_eq!((code, &ended["error"]["code"]), (409, &json!("CONFLICT")), "{method}");
            for unknown in ["c86a8df0-febd-adcd-0000-000000000001", "nothing"] {
                let (code, answer) = send(&served, method, unknown, body.clone()).await;
                assert_eq!(
                    (code, &answer["error"]["code"]),
                    (404, &json!("NOT_FOUND")),
                    "{method} {unknown}"
                );
            }
        }
        let (code, again) =
            served.post("/v1/locks", &lock(json!({"owner": "me", "request_id": "r"}))).await;
        assert_eq!((code, &again["error"]["code"]), (409, &json!("CONFLICT")));
    });
}

#[test]
fn a_client_that_goes_away_leaves_the_line() {
    run_test(async {
        let served = Served::fresh().await;
        let (_, held) = served.post("/v1/locks", &lock(json!({}))).await;
        let waits = lock(json!({"wait_seconds": 60}));
        let request = served.post("/v1/locks", &waits);
        // The server drops the request's future.
        let gone = async { tokio::time::timeout(Duration::from_secs(2), request).await };
        let (gone, ()) = tokio::join!(gone, line_of(&served.ledger.shards, 1));
        assert!(gone.is_err());
        line_of(&served.ledger.shards, 0).await;
        send(&served, "DELETE", held["lock_id"].as_str().unwrap(), None).await;
        assert_eq!(served.post("/v1/locks", &lock(json!({}))).await.0, 201);
    });
}

#[test]
fn bad_requests_are_refused_by_name() {
    run_test(async {
        let served = Served::fresh().await;
        let long = "x".repeat(257);
        for (with, field) in [
            (json!({"type": "nothing"}), "type"),
            (json!({"type": "storage_state"}), "type"),
            (json!({"type": 1}), "type"),
            (json!({"attributes": {}}), "attributes.storage_id"),
            (json!({"attributes": {"storage_id": "7"}}), "attributes.storage_id"),
            (json!({"attributes": {"storage_id": 7.0}}), "attributes.storage_id"),
            (json!({"attributes": {"storage_id": 7, "more": 1}}), "attributes.more"),
            (json!({"attributes": []}), "attributes"),
            (json!({"mode": "both"}), "mode"),
            (json!({"mode": null}), "mode"),
            (json!({"ttl_seconds": 0}), "ttl_seconds"),
            (json!({"ttl_seconds": "60"}), "ttl_seconds"),
            (json!({"ttl_seconds": 86401}), "ttl_seconds"),
            (json!({"wait_seconds": -1}), "wait_seconds"),
            (json!({"wait_seconds": 301}), "wait_seconds"),
            (json!({"owner": 1}), "owner"),
            (json!({"owner": ""}), "owner"),
            (json!({"owner": "a\u{0}"}), "owner"),
            (json!({"request_id": long}), "request_id"),
            (json!({"priority": 1}), "priority"),
        ] {
            let (code, answer) = served.post("/v1/locks", &lock(with.clone())).await;
            assert_eq!(
                (code, &answer["error"]["code"]),
                (400, &json!("VALIDATION_ERROR")),
                "{with}"
            );
            assert!(answer["error"]["args"].get(field).is_some(), "{with}: {answer}");
        }
        for text in ["", "{", "[]", "null", r#"{"type": "storage_lock", "type": "storage_lock"}"#] {
            let (code, answer) = served.post_text("/v1/locks", text.to_owned()).await;
            assert_eq!(
                (code, &answer["error"]["code"]),
                (400, &json!("VALIDATION_ERROR")),
                "{text}"
            );
        }
        // No lock was taken.
        assert_eq!(
            served.post("/v1/locks", &lock(json!({"wait_seconds": null, "owner": null}))).await.0,
            201
        );
    });
}
