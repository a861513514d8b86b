//! Hazard (SSRF): a webhook reaches a forbidden address by another spelling, or by DNS rebinding
//! after the check.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::response::Redirect;
use axum::routing::any;
use events::task_types::http_request::{WebhookConnectError, WebhookConnector, WebhookTarget};
use serde_json::{Value, json};
use store::testing::run_test;
use tasks::ActionWorker;
use tokio_util::sync::CancellationToken;

use crate::harness::{World, webhook};
use crate::staged::{PUBLIC, Staged};

/// `/hook` answers 200, `/busy` 503, `/to?…` redirects.
async fn server() -> SocketAddr {
    let to = |axum::extract::RawQuery(query): axum::extract::RawQuery| async move {
        Redirect::temporary(&query.unwrap_or_default())
    };
    let router = Router::new()
        .route("/hook", any(|| async { "thanks" }))
        .route("/busy", any(|| async { axum::http::StatusCode::SERVICE_UNAVAILABLE }))
        .route("/to", any(to));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    place
}

/// A world whose webhooks use the fake network, as long as the worker is kept.
async fn staged() -> (World, Arc<Staged>, ActionWorker) {
    let (world, staged) = (World::fresh().await, Staged::before(server().await));
    let connector = WebhookConnector::new([], []).with_network(staged.clone());
    let worker = world.worker_with(connector, &CancellationToken::new()).await;
    (world, staged, worker)
}

/// The task of a webhook to this URL, after it has ended.
async fn sent(world: &World, name: &str, url: &str) -> Value {
    world.config(webhook(name, json!({"url": url}))).await;
    let event = world.event(name, json!({})).await;
    world.ended(world.only(&event).await).await
}

fn error(task: &Value) -> &str {
    assert_eq!(task["status"], "failed", "{task}");
    task["error"].as_str().unwrap()
}

#[test]
fn the_address_that_was_checked_is_the_one_that_is_connected_to() {
    run_test(async {
        let (world, staged, _worker) = staged().await;
        // Public in the first resolution, private in every later one.
        staged.name("rebound.example", &[&[PUBLIC], &["127.0.0.1"]]);
        let task = sent(&world, "rebound", "http://rebound.example/hook").await;
        assert_eq!(
            (&task["status"], staged.dialed()),
            (&json!("succeeded"), vec![PUBLIC.to_owned()]),
            "{task}"
        );
        let task = sent(&world, "again", "http://rebound.example/hook").await;
        assert!(
            error(&task).contains("rebound.example is 127.0.0.1, 127.0.0.1 is a loopback"),
            "{task}"
        );
        assert_eq!(staged.dialed(), [""; 0]);
    });
}

#[test]
fn a_name_is_checked_at_each_attempt_and_at_each_redirect() {
    run_test(async {
        let (world, staged, _worker) = staged().await;
        staged.name("hooks.example", &[&[PUBLIC]]);
        // The first attempt gets a 503; the retry resolves to another address.
        staged.name("busy.example", &[&[PUBLIC], &["10.0.0.7"]]);
        let task = sent(&world, "busy", "http://busy.example/busy").await;
        assert!(error(&task).contains("10.0.0.7 is a private address"), "{task}");
        assert_eq!((&task["attempts"], staged.dialed().len()), (&json!(2), 1));
        staged.name("turns.example", &[&[PUBLIC], &["169.254.169.254"]]);
        let task = sent(&world, "turns", "http://turns.example/to?http://turns.example/hook").await;
        assert!(error(&task).contains("169.254.169.254 is a link-local address"), "{task}");
        assert_eq!((&task["attempts"], staged.dialed()), (&json!(1), vec![PUBLIC.to_owned()]));
        // A name with several addresses, one of them private: none is tried.
        staged.name("both.example", &[&[PUBLIC, "::ffff:10.0.0.1"]]);
        for (name, url) in [
            ("both", "http://both.example/hook"),
            ("led", "http://hooks.example/to?http://both.example/hook"),
        ] {
            let task = sent(&world, name, url).await;
            assert!(error(&task).contains("::ffff:10.0.0.1 is a private address"), "{task}");
        }
        assert_eq!(staged.dialed(), [PUBLIC], "the redirecting server, and nothing else");
        let task = sent(&world, "fine", "http://hooks.example/to?/hook").await;
        assert_eq!(task["status"], "succeeded", "{task}");
        let task = sent(&world, "nowhere", "http://nowhere.example/hook").await;
        assert!(error(&task).contains("could not be resolved"), "{task}");
    });
}

#[test]
fn no_spelling_of_an_inner_address_is_reached() {
    run_test(async {
        let connector = WebhookConnector::new([], []);
        for (host, what) in [
            ("127.0.0.1", "a loopback address"),
            ("127.1", "a loopback address"),
            ("2130706433", "a loopback address"),
            ("0x7f000001", "a loopback address"),
            ("0x7f.1", "a loopback address"),
            ("0177.0.0.1", "a loopback address"),
            ("017700000001", "a loopback address"),
            ("LocalHost", "a loopback address"),
            ("[::1]", "a loopback address"),
            ("[0:0:0:0:0:0:0:1]", "a loopback address"),
            ("[::ffff:127.0.0.1]", "a loopback address"),
            ("[::ffff:7f00:1]", "a loopback address"),
            ("[::127.0.0.1]", "a loopback address"),
            ("[64:ff9b::127.0.0.1]", "a loopback address"),
            ("[2002:7f00:1::]", "a loopback address"),
            ("0.0.0.0", "an unspecified address"),
            ("0", "an unspecified address"),
            ("[::]", "an unspecified address"),
            ("[::ffff:0.0.0.0]", "an unspecified address"),
            ("169.254.169.254", "a link-local address"),
            ("2852039166", "a link-local address"),
            ("0xa9fea9fe", "a link-local address"),
            ("[::ffff:169.254.169.254]", "a link-local address"),
            ("[fe80::1]", "a link-local address"),
            ("10.1", "a private address"),
            ("012.0.0.1", "a private address"),
            ("[fd00::1]", "a private address"),
            ("100.64.0.1", "a shared address"),
        ] {
            for scheme in ["http", "https"] {
                let uri = format!("{scheme}://{host}:9/").parse().unwrap();
                let refused =
                    connector.connect(&WebhookTarget::from_uri(&uri).unwrap()).await.err();
                let Some(WebhookConnectError::Refused(reason)) = refused else {
                    panic!("{uri}: {refused:?}")
                };
                assert!(reason.contains(what), "{uri}: {reason}");
            }
        }
    });
}
