//! Promise: a client whose scope is narrowed to account types reads and writes these alone, and is
//! the owner of its locks.

use access::{AccessControl, RequestClient, TokenHash, parse_clients};
use axum::body::Body;
use http::{HeaderMap, Method, Request, header};
use serde_json::{Value, json};

use crate::harness::{Served, event};

fn client(name: &str, scopes: &str) -> RequestClient {
    let hash = TokenHash::of_token(b"token").to_hex();
    let text =
        format!("clients: [{{name: {name}, scopes: [{scopes}], tokens: [{{sha256: '{hash}'}}]}}]");
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, "Bearer token".parse().unwrap());
    let control = AccessControl::new(parse_clients(&text).unwrap());
    control.authenticate(&headers, None, std::net::Ipv4Addr::LOCALHOST.into()).unwrap()
}

async fn ask(
    served: &Served,
    caller: &RequestClient,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> (u16, Value) {
    let request = Request::builder().method(method).uri(path).extension(caller.clone());
    let body = body.map(Value::to_string);
    let request = request.header(header::CONTENT_TYPE, "application/json");
    served.ask(request.body(body.map_or_else(Body::empty, Body::from)).unwrap()).await
}

fn lock(owner: Option<&str>) -> Value {
    let mut lock = json!({
        "type": "storage_lock", "attributes": {"storage_id": 1}, "mode": "shared",
        "ttl_seconds": 60,
    });
    if let Some(owner) = owner {
        lock["owner"] = owner.into();
    }
    lock
}

#[test]
fn a_narrowed_client_reads_and_writes_its_types_alone() {
    store::testing::run_test(async {
        let served = Served::fresh().await;
        let events = json!({"events": [event("a", 1, "2024-05-01T00:00:00Z", "5")]});
        let state = json!({"type": "storage_state", "attributes": {"storage_id": 1}, "state": {}});
        let batch =
            json!({"events": [event("b", 1, "2024-05-01T00:00:00Z", "5")], "states": [state]});
        let states = json!({"states": [state]});
        let outflow = "'ledger:write:storage_outflow', 'ledger:read:storage_outflow'";
        let state_only = "'ledger:write:storage_state', 'ledger:read:storage_state'";
        let balance = "/v1/balances/storage_outflow?storage_id=1";
        let state_path = "/v1/states/storage_state?storage_id=1";
        for (scopes, method, path, body, status) in [
            (outflow, Method::POST, "/v1/events", Some(&events), 200),
            (outflow, Method::POST, "/v1/batch", Some(&batch), 403),
            (outflow, Method::POST, "/v1/batch", Some(&states), 403),
            (outflow, Method::GET, balance, None, 200),
            (outflow, Method::GET, state_path, None, 403),
            (outflow, Method::GET, "/v1/types", None, 403),
            (outflow, Method::GET, "/v1/feed/s0", None, 403),
            (state_only, Method::POST, "/v1/events", Some(&events), 403),
            (state_only, Method::POST, "/v1/batch", Some(&batch), 403),
            (state_only, Method::POST, "/v1/batch", Some(&states), 200),
            (state_only, Method::GET, balance, None, 403),
            (state_only, Method::GET, state_path, None, 200),
            ("ledger:read", Method::GET, balance, None, 200),
            ("ledger:read", Method::POST, "/v1/events", Some(&events), 403),
            ("ledger:write", Method::POST, "/v1/batch", Some(&batch), 200),
            ("ledger:write", Method::GET, balance, None, 403),
        ] {
            let (code, answer) = ask(&served, &client("a", scopes), method, path, body).await;
            assert_eq!(code, status, "{scopes} {path} {answer}");
        }
    });
}

#[test]
fn a_narrowed_client_learns_no_other_types_name() {
    store::testing::run_test(async {
        let served = Served::fresh().await;
        let scopes = "'ledger:write:gone', 'ledger:read:gone'";
        let mut event = event("a", 1, "2024-05-01T00:00:00Z", "5");
        let mut lock = lock(None);
        let state = |name: &str| json!({"type": name, "attributes": {}, "state": {}});
        for (named, status) in [("gone", 400), ("other", 403)] {
            event["type"] = named.into();
            lock["type"] = named.into();
            let events = json!({"events": [event]});
            let batch = json!({"states": [state(named)]});
            let (states, balances) =
                (format!("/v1/states/{named}"), format!("/v1/balances/{named}"));
            for (method, path, body) in [
                (Method::POST, "/v1/events", Some(&events)),
                (Method::POST, "/v1/batch", Some(&events)),
                (Method::POST, "/v1/batch", Some(&batch)),
                (Method::POST, "/v1/locks", Some(&lock)),
                (Method::GET, states.as_str(), None),
                (Method::PUT, states.as_str(), Some(&json!({}))),
                (Method::GET, balances.as_str(), None),
            ] {
                let (code, answer) = ask(&served, &client("a", scopes), method, path, body).await;
                assert_eq!(code, status, "{path} {answer}");
                assert!(!answer.to_string().contains("storage"), "{path} {answer}");
            }
        }
        let (_, answer) =
            ask(&served, &client("a", "ledger:read"), Method::GET, "/v1/balances/gone", None).await;
        assert!(answer.to_string().contains("storage_outflow"), "{answer}");
    });
}

#[test]
fn a_client_is_the_owner_of_its_locks() {
    store::testing::run_test(async {
        let served = Served::fresh().await;
        for (scopes, named, owner) in [
            ("ledger:write", None, Some("robot")),
            ("ledger:write", Some("robot"), Some("robot")),
            ("ledger:write", Some("other"), None),
            ("'ledger:write:storage_lock'", None, Some("robot")),
            ("'ledger:write:storage_state'", None, None),
            ("admin", Some("other"), Some("other")),
        ] {
            let caller = client("robot", scopes);
            let (code, answer) =
                ask(&served, &caller, Method::POST, "/v1/locks", Some(&lock(named))).await;
            assert_eq!(code, if owner.is_some() { 201 } else { 403 }, "{scopes} {answer}");
            let Some(id) = answer["lock_id"].as_str() else { continue };
            let path = format!("/v1/locks/{id}");
            let (_, held) = served.get(&path).await;
            assert_eq!(held["owner"].as_str(), owner, "{held}");
            let foreign = client("robot", "'ledger:write:x', 'ledger:read:x'");
            let ttl = json!({"ttl_seconds": 5});
            for (method, body) in
                [(Method::GET, None), (Method::PATCH, Some(&ttl)), (Method::DELETE, None)]
            {
                let (code, answer) = ask(&served, &foreign, method, &path, body).await;
                assert_eq!(code, 403, "{answer}");
                assert!(!answer.to_string().contains("storage_lock"), "{answer}");
            }
            let (code, answer) = ask(&served, &caller, Method::DELETE, &path, None).await;
            assert_eq!(code, 204, "{answer}");
        }
    });
}
