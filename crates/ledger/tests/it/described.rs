//! Promise: /openapi.json describes the server. Its paths and methods are exactly the router's, its
//! examples work, and answers have the described statuses and shapes, without undescribed members.

use std::collections::BTreeSet;

use axum::body::Body;
use http::{Method, Request};
use serde_json::{Value, json};
use serving::ops::{self, ServerReadiness};
use store::testing::run_test;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::document::{Call, Document, METHODS, call};
use crate::harness::{Served, event, routes};

/// A lock id that was never granted.
const LOCK_ID: &str = "c86a8df0-febd-adcd-8000-000000000000";
/// Paths whose answers differ from the examples: statistics, other types, and no sequence numbers
/// without a sequencer.
const OF_ITS_OWN: [&str; 3] = ["/v1/shards", "/v1/types", "/v1/feed/{shard}"];

#[test]
fn paths_and_methods_are_the_routers() {
    run_test(async {
        let served = Served::fresh().await;
        let document = Document::of(&served).await;
        let metrics = ops::install_metrics().unwrap();
        let router = routes(&served.ledger)
            .merge(ops::ops_routes(ServerReadiness::not_ready("test"), metrics).into_router());
        // The router exposes its paths only in its `Debug` form; if that changes, the sets differ
        // and the test fails.
        let shown = format!("{router:?}");
        let shown = shown.split("fallback_router").next().unwrap();
        let paths: BTreeSet<&str> = shown.split('"').filter(|word| word.starts_with('/')).collect();
        let calls = document.calls();
        assert_eq!(paths, calls.iter().map(|call| call.path.as_str()).collect());
        for path in paths {
            let address = path.replace("{type}", "storage_outflow").replace("{id}", LOCK_ID);
            for method in METHODS {
                let request =
                    Request::builder().method(&method).uri(&address).body(Body::empty()).unwrap();
                let status = router.clone().oneshot(request).await.unwrap().status().as_u16();
                let described = calls.contains(&call(method.clone(), path));
                assert_eq!(described, status != 405, "{method} {path} answers {status}");
            }
        }
    });
}

#[test]
fn the_examples_work_and_answers_are_as_described() {
    run_test(async {
        let served = Served::fresh().await;
        let document = Document::of(&served).await;
        // Document order, except that creating calls precede reading ones and deleting ones come
        // last.
        let mut calls = document.calls();
        calls.sort_by_key(|call| match call.method {
            Method::POST | Method::PUT => 0,
            Method::DELETE => 2,
            _ => 1,
        });
        let mut lock_id = LOCK_ID.to_owned();
        for call in calls.iter().filter(|call| call.path.starts_with("/v1/")) {
            let (status, answer) = served.ask(document.request(call, &lock_id)).await;
            assert!((200..300).contains(&status), "{call:?} answers {status}: {answer}");
            document.assert_answer(call, status, &answer);
            let example = &document.content(call, status)["example"];
            document.assert_answer(call, status, example);
            if let Some(granted) = answer["lock_id"].as_str() {
                granted.clone_into(&mut lock_id);
            } else if !OF_ITS_OWN.contains(&call.path.as_str()) {
                assert_eq!(answer, *example, "{call:?}");
            }
        }
    });
}

/// Sends the request and validates the answer against the document.
async fn assert_answers(
    served: &Served,
    document: &Document,
    call: &Call,
    at: &str,
    body: &str,
    expected: u16,
) -> Value {
    let request =
        Request::builder().method(&call.method).uri(at).header("Content-Type", "application/json");
    let (status, answer) =
        served.ask(request.header("If-Match", "3").body(body.to_owned().into()).unwrap()).await;
    assert_eq!(status, expected, "{call:?} {at} {body}: {answer}");
    document.assert_answer(call, status, &answer);
    answer
}

#[test]
fn refusals_are_as_described() {
    run_test(async {
        let served = Served::fresh().await;
        let document = Document::of(&served).await;
        for call in document.calls() {
            for status in document.at(&call)["responses"].as_object().unwrap().keys() {
                let status = status.parse().unwrap();
                document.assert_answer(&call, status, &document.content(&call, status)["example"]);
            }
            let (taxi, odd) =
                (call.path.replace("{type}", "taxi"), call.path.replace(['{', '}'], "%ff"));
            for address in [taxi, odd]
                .iter()
                .filter(|address| call.path.contains('{') && !address.contains('{'))
            {
                let body = r#"{"ttl_seconds": 1}"#;
                assert_answers(&served, &document, &call, address, body, 400).await;
            }
        }
        let events =
            |debit: &str| json!([event("e", 7, "2024-02-29T12:00:00Z", debit)]).to_string();
        let (good, other) = (events("1"), events("2"));
        let state = r#"{"type": "storage_state", "attributes": {"storage_id": 7}, "state": 1, "expected_version": 3}"#;
        let large = " ".repeat(9 << 20);
        for (method, path, at, body, expected) in [
            (Method::POST, "/v1/events", "/v1/events", format!(r#"{{"events": {good}}}"#), 200),
            (Method::POST, "/v1/events", "/v1/events", format!(r#"{{"events": {other}}}"#), 409),
            (
                Method::POST,
                "/v1/events",
                "/v1/events",
                format!(r#"{{"events": [], "lock_id": "{LOCK_ID}"}}"#),
                409,
            ),
            (Method::POST, "/v1/events", "/v1/events", large.clone(), 413),
            (Method::POST, "/v1/batch", "/v1/batch", format!(r#"{{"events": {other}}}"#), 409),
            (Method::POST, "/v1/batch", "/v1/batch", format!(r#"{{"states": [{state}]}}"#), 409),
            (Method::POST, "/v1/batch", "/v1/batch", large.clone(), 413),
            (Method::POST, "/v1/batch", "/v1/batch", "{".to_owned(), 400),
            (Method::GET, "/v1/feed/{shard}", "/v1/feed/s9", String::new(), 404),
            (Method::GET, "/v1/feed/{shard}", "/v1/feed/s3?limit=0", String::new(), 400),
            (
                Method::GET,
                "/v1/states/{type}",
                "/v1/states/storage_state?storage_id=7",
                String::new(),
                404,
            ),
            (
                Method::PUT,
                "/v1/states/{type}",
                "/v1/states/storage_state?storage_id=7",
                "1".to_owned(),
                409,
            ),
            (Method::PUT, "/v1/states/{type}", "/v1/states/storage_state?storage_id=7", large, 413),
        ] {
            assert_answers(&served, &document, &call(method, path), at, &body, expected).await;
        }
    });
}

#[test]
fn refusals_of_locks_are_as_described() {
    run_test(async {
        let served = Served::fresh().await;
        let document = Document::of(&served).await;
        let wanted = |request_id: &str| {
            json!({"type": "storage_lock", "attributes": {"storage_id": 7}, "mode": "exclusive", "ttl_seconds": 60,
                "request_id": request_id})
            .to_string()
        };
        let (acquire, one) = (call(Method::POST, "/v1/locks"), "/v1/locks/{id}");
        let ask = async |call: &Call, at: &str, body: &str, expected: u16| {
            assert_answers(&served, &document, call, at, body, expected).await
        };
        let granted = ask(&acquire, "/v1/locks", &wanted("mine"), 201).await;
        ask(&acquire, "/v1/locks", &wanted("another"), 423).await;
        ask(&acquire, "/v1/locks", "{}", 400).await;
        let address = format!("/v1/locks/{}", granted["lock_id"].as_str().unwrap());
        ask(&call(Method::PATCH, one), &address, "{}", 400).await;
        for (address, release, expected) in
            [(format!("/v1/locks/{LOCK_ID}"), 404, 404), (address, 204, 409)]
        {
            ask(&call(Method::DELETE, one), &address, "", release).await;
            ask(&call(Method::DELETE, one), &address, "", expected).await;
            ask(&call(Method::GET, one), &address, "", expected).await;
            ask(&call(Method::PATCH, one), &address, r#"{"ttl_seconds": 1}"#, expected).await;
        }
        ask(&acquire, "/v1/locks", &wanted("mine"), 409).await;
    });
}

#[test]
fn explanations_are_as_described() {
    run_test(async {
        let (served, stop) = (Served::fresh().await, CancellationToken::new());
        let document = Document::of(&served).await;
        served.write(&[event("e", 7, "2024-02-29T12:00:00Z", "1")]).await;
        let (balances, at) = (
            call(Method::GET, "/v1/balances/{type}"),
            "/v1/balances/storage_outflow?storage_id=7&explain=",
        );
        let ask = async |explain: &str, status| {
            let answer = assert_answers(
                &served,
                &document,
                &balances,
                &format!("{at}{explain}"),
                "",
                status,
            )
            .await;
            answer["explain"].clone()
        };
        ask("maybe", 400).await;
        assert_eq!(ask("false", 200).await, Value::Null);
        assert_eq!(ask("true", 200).await["aggregate"], Value::Null);
        let mut duties = served.aggregate(&stop);
        served.all_aggregated().await;
        assert_eq!(ask("true", 200).await["aggregate"]["events"], 1);
        stop.cancel();
        while let Some(ended) = duties.join_next().await {
            ended.unwrap();
        }
    });
}

#[test]
fn without_its_shards_it_answers_as_described() {
    run_test(async {
        let served = Served::fresh().await;
        let document = Document::of(&served).await;
        for shard in served.ledger.shards.all() {
            shard.pool.close().await;
        }
        let calls: Vec<Call> =
            document.calls().into_iter().filter(|call| call.path.starts_with("/v1/")).collect();
        // Concurrently: each call retries for seconds.
        let asked = calls.iter().map(|call| served.ask(document.request(call, LOCK_ID)));
        for (call, (status, answer)) in calls.iter().zip(futures::future::join_all(asked).await) {
            let quiet = ["/v1/types", "/v1/shards"].contains(&call.path.as_str());
            assert_eq!(status, if quiet { 200 } else { 503 }, "{call:?}: {answer}");
            document.assert_answer(call, status, &answer);
        }
    });
}
