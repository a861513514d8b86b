//! Hazard: a webhook reaches a forbidden address (SSRF), is unsigned, or is sent too often.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect};
use axum::routing::{any, get};
use serde_json::json;
use store::testing::run_test;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::harness::{World, webhook};

type Got = (HeaderMap, String);

/// A server: `/hook` answers 503 to the first two requests, `/to?…` redirects.
async fn server() -> (String, mpsc::UnboundedReceiver<Got>) {
    let (sender, received) = mpsc::unbounded_channel();
    let asked = Arc::new(AtomicUsize::new(0));
    let hook = |State((sender, asked)): State<(mpsc::UnboundedSender<Got>, Arc<AtomicUsize>)>,
                headers: HeaderMap,
                body: String| async move {
        sender.send((headers, body)).unwrap();
        match asked.fetch_add(1, Ordering::SeqCst) {
            0 | 1 => (StatusCode::SERVICE_UNAVAILABLE, "not now").into_response(),
            _ => "thanks".into_response(),
        }
    };
    let to = |axum::extract::RawQuery(query): axum::extract::RawQuery| async move {
        Redirect::temporary(&query.unwrap_or_default()).into_response()
    };
    let large = || async { "x".repeat(1 << 20) };
    let router = Router::new()
        .route("/hook", any(hook))
        .route("/to", any(to))
        .route("/loop", any(|| async { Redirect::temporary("/loop") }))
        .route("/large", get(large))
        .with_state((sender, asked));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (place, received)
}

#[test]
fn a_webhook_is_signed_and_tried_again_on_503_under_one_key() {
    run_test(async {
        let world = World::fresh().await;
        let (place, mut received) = server().await;
        let params = json!({"url": format!("http://{place}/hook"), "json": {"date": "{{ event.params.date }}"},
                            "headers": {"X-Mine": "{{ event._id }}"}});
        world.config(webhook("c", params)).await;
        let stop = CancellationToken::new();
        let _worker = world.worker(std::slice::from_ref(&place), &stop).await;
        let event = world.event("c", json!({"date": "2026-11-25"})).await;
        let task = world.only(&event).await;
        let done = world.until(task, "succeeded").await;
        assert_eq!(
            (&done["attempts"], &done["outcome"]),
            (&json!(3), &json!({"status": 200, "body": "thanks"}))
        );
        for _ in 0..3 {
            let (headers, body) = received.recv().await.unwrap();
            assert_eq!(body, r#"{"date":"2026-11-25"}"#);
            assert_eq!(headers["idempotency-key"], task.to_string());
            assert_eq!(headers["content-type"], "application/json");
            assert_eq!(headers["x-mine"], event);
            // printf '{"date":"2026-11-25"}' | openssl dgst -sha256 -hmac 'it is a secret'
            let signature = headers["x-signature"].to_str().unwrap();
            assert_eq!(signature, SIGNATURE);
        }
        assert!(received.try_recv().is_err());
    });
}

const SIGNATURE: &str = "sha256=14996ded618a1363ca2eb8a64475309e627e78fefab1fccc8917d8f923c1bd9e";

#[test]
fn what_must_not_be_reached_is_refused_with_the_reason_in_the_story() {
    run_test(async {
        let world = World::fresh().await;
        let (place, mut received) = server().await;
        let port = place.rsplit_once(':').unwrap().1.to_owned();
        let stop = CancellationToken::new();
        let _worker = world.worker(&[], &stop).await;
        for (n, (url, words)) in [
            (format!("http://127.0.0.1:{port}/hook"), "a loopback address"),
            (format!("http://localhost:{port}/hook"), "localhost is "),
            (format!("http://[::1]:{port}/hook"), "a loopback address"),
            (format!("http://[::ffff:127.0.0.1]:{port}/hook"), "a loopback address"),
            (format!("http://0x7f000001:{port}/hook"), "a loopback address"),
            (format!("http://2130706433:{port}/hook"), "a loopback address"),
            ("http://169.254.169.254/latest/meta-data".to_owned(), "a link-local address"),
            ("http://10.0.0.1/".to_owned(), "a private address"),
            ("https://192.168.1.1/".to_owned(), "a private address"),
            ("http://[fd00::1]/".to_owned(), "a private address"),
            ("http://[64:ff9b::a00:1]/".to_owned(), "a private address"),
            ("http://0.0.0.0/".to_owned(), "an unspecified address"),
        ]
        .into_iter()
        .enumerate()
        {
            let name = format!("hook{n}");
            world.config(webhook(&name, json!({"url": url}))).await;
            let event = world.event(&name, json!({})).await;
            world.until(world.only(&event).await, "failed").await;
            let story = world.story(&event).await;
            let error = story["produced_tasks"][0]["error"].as_str().unwrap();
            assert!(error.contains(words) && error.contains("--webhook-allow"), "{url}: {error}");
        }
        assert!(received.try_recv().is_err(), "something was reached");
    });
}

#[test]
fn a_redirect_is_checked_like_the_first_address_and_answers_are_bounded() {
    run_test(async {
        let world = World::fresh().await;
        let (place, mut received) = server().await;
        let port = place.rsplit_once(':').unwrap().1.to_owned();
        let stop = CancellationToken::new();
        let _worker = world.worker(std::slice::from_ref(&place), &stop).await;
        for (name, to, words) in [
            ("private", "http://10.0.0.1/".to_owned(), "a private address"),
            ("loopback", format!("http://localhost:{port}/hook"), "localhost is "),
            ("metadata", "http://169.254.169.254/".to_owned(), "a link-local address"),
            ("file", "file:///etc/passwd".to_owned(), "which is no URL"),
            ("loop", format!("http://{place}/loop"), "redirects"),
        ] {
            world.config(webhook(name, json!({"url": format!("http://{place}/to?{to}")}))).await;
            let event = world.event(name, json!({})).await;
            let failed = world.until(world.only(&event).await, "failed").await;
            assert!(failed["error"].as_str().unwrap().contains(words), "{name}: {failed}");
            assert_eq!(failed["attempts"], 1);
        }
        assert!(received.try_recv().is_err(), "something was reached");
        world
            .config(webhook(
                "large",
                json!({"url": format!("http://{place}/large"), "method": "GET"}),
            ))
            .await;
        let event = world.event("large", json!({})).await;
        let done = world.until(world.only(&event).await, "succeeded").await;
        assert!(done["outcome"].to_string().len() < 3000);
        world.config(webhook("missing", json!({"url": format!("http://{place}/x")}))).await;
        let event = world.event("missing", json!({})).await;
        let failed = world.until(world.only(&event).await, "failed").await;
        assert!(failed["error"].as_str().unwrap().contains("404"), "{failed}");
    });
}
