//! Hazard: a webhook's response is misread: a redirect that loses the request counts as delivered,
//! `Retry-After` is ignored, or an event's value becomes another URL component.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use serde_json::json;
use store::testing::run_test;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use crate::harness::{World, webhook};

/// Time, method and URI of a request.
type Asked = (Instant, String, String);

#[derive(Clone)]
struct Server {
    asked: mpsc::UnboundedSender<Asked>,
    /// Responses of `/later` in order; then 200.
    later: Arc<Mutex<Vec<Response>>>,
}

async fn server(later: Vec<Response>) -> (String, mpsc::UnboundedReceiver<Asked>) {
    let (sender, received) = mpsc::unbounded_channel();
    let note = |server: &Server, request: &Request| {
        let asked = (Instant::now(), request.method().to_string(), request.uri().to_string());
        server.asked.send(asked).unwrap();
    };
    let hook = move |State(server): State<Server>, request: Request| async move {
        note(&server, &request);
        "thanks"
    };
    let moved = move |State(server): State<Server>, Path(status): Path<u16>, request: Request| async move {
        note(&server, &request);
        let to = request.uri().query().unwrap_or_default().to_owned();
        (StatusCode::from_u16(status).unwrap(), [("Location", to)]).into_response()
    };
    let later_route = move |State(server): State<Server>, request: Request| async move {
        note(&server, &request);
        server.later.lock().await.pop().unwrap_or_else(|| "thanks".into_response())
    };
    let later = later.into_iter().rev().collect();
    let router = Router::new()
        .route("/to/{status}", any(moved))
        .route("/later", any(later_route))
        .fallback(any(hook))
        .with_state(Server { asked: sender, later: Arc::new(Mutex::new(later)) });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (place, received)
}

#[test]
fn what_has_moved_was_not_delivered() {
    run_test(async {
        let (world, stop, (place, mut asked)) =
            (World::fresh().await, CancellationToken::new(), server(vec![]).await);
        let _worker = world.worker(std::slice::from_ref(&place), &stop).await;
        for status in [301, 302, 303] {
            let name = format!("moved{status}");
            let url = format!("http://{place}/to/{status}?/new/address");
            world.config(webhook(&name, json!({"url": url, "json": {"a": 1}}))).await;
            let event = world.event(&name, json!({})).await;
            let task = world.ended(world.only(&event).await).await;
            assert_eq!(
                (&task["status"], &task["attempts"]),
                (&json!("failed"), &json!(1)),
                "{task}"
            );
            let error = task["error"].as_str().unwrap();
            assert!(error.contains(&format!("http://{place}/new/address")), "{error}");
            assert!(error.contains(&status.to_string()), "{error}");
            assert_eq!(asked.recv().await.unwrap().1, "POST");
        }
        assert!(asked.try_recv().is_err(), "the new address was asked");
        for (status, location, path) in
            [(307, "../up?x=http://b", "/up?x=http://b"), (308, "?y=1", "/to/308?y=1")]
        {
            let name = format!("moved{status}");
            let url = format!("http://{place}/to/{status}?{location}");
            world.config(webhook(&name, json!({"url": url, "json": {"a": 1}}))).await;
            let event = world.event(&name, json!({})).await;
            world.ended(world.only(&event).await).await;
            asked.recv().await.unwrap();
            let (_, method, uri) = asked.recv().await.unwrap();
            assert_eq!((method.as_str(), uri.as_str()), ("POST", path));
        }
    });
}

/// Waits until a task has been postponed.
async fn put_off(world: &World, task: i64) {
    let look = async || {
        let task = world.task(task).await;
        let put_off = task["status"] == "waiting"
            && task["error"].as_str().is_some_and(|error| error.contains("429"));
        put_off.then_some(())
    };
    world.until_some("the task is put off", look).await;
}

/// A webhook with one attempt.
fn webhook_once(name: &str, place: &str) -> serde_json::Value {
    let mut config = webhook(name, json!({"url": format!("http://{place}/later")}));
    config["action"]["max_attempts"] = 1.into();
    config
}

fn busy(status: u16, headers: &[(&str, String)]) -> Response {
    let mut response = StatusCode::from_u16(status).unwrap().into_response();
    for (name, value) in headers {
        let name: axum::http::HeaderName = name.parse().unwrap();
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

#[test]
fn a_server_that_asks_for_patience_is_given_it_and_no_attempt_is_used_up() {
    run_test(async {
        let moment =
            |seconds: i64| (chrono::Utc::now() + chrono::Duration::seconds(seconds)).to_rfc2822();
        // A server whose clock is an hour behind.
        let behind = busy(503, &[("Retry-After", moment(-3598)), ("Date", moment(-3600))]);
        let answers = vec![
            busy(429, &[("Retry-After", "2".to_owned())]),
            busy(503, &[("Retry-After", "2".to_owned())]),
            behind,
            "thanks".into_response(),
            busy(429, &[("Retry-After", "1".to_owned())]),
            busy(429, &[("Retry-After", "1".to_owned())]),
        ];
        let (world, stop, (place, mut asked)) =
            (World::fresh().await, CancellationToken::new(), server(answers).await);
        let _worker = world.worker(std::slice::from_ref(&place), &stop).await;
        world.config(webhook_once("c", &place)).await;
        let event = world.event("c", json!({})).await;
        let task = world.only(&event).await;
        put_off(&world, task).await;
        let done = world.ended(task).await;
        assert_eq!(
            (&done["status"], &done["attempts"]),
            (&json!("succeeded"), &json!(1)),
            "{done}"
        );
        let mut last: Option<Instant> = None;
        for _ in 0..4 {
            let (at, ..) = asked.recv().await.unwrap();
            if let Some(last) = last {
                let waited = at - last;
                assert!(waited >= Duration::from_secs(2), "{waited:?}");
                assert!(waited < Duration::from_secs(10), "{waited:?}");
            }
            last = Some(at);
        }
        // Postponement is bounded: after a day in total, a postponed attempt counts as failed.
        world.config(webhook_once("late", &place)).await;
        let event = world.event("late", json!({})).await;
        let task = world.only(&event).await;
        put_off(&world, task).await;
        sqlx::query("UPDATE tasks SET postponed = 24 * 3600 WHERE task_id = $1")
            .bind(task)
            .execute(&world.pool)
            .await
            .unwrap();
        let failed = world.ended(task).await;
        assert!(
            failed["status"] == "failed" && failed["error"].as_str().unwrap().contains("429"),
            "{failed}"
        );
    });
}

#[test]
fn a_value_of_an_event_stays_one_part_of_the_url() {
    run_test(async {
        let (world, stop, (place, mut asked)) =
            (World::fresh().await, CancellationToken::new(), server(vec![]).await);
        let _worker = world.worker(std::slice::from_ref(&place), &stop).await;
        world
            .config(webhook(
                "query",
                json!({"url": format!("http://{place}/run?name={{{{ event.params.v }}}}")}),
            ))
            .await;
        world
            .config(webhook(
                "path",
                json!({"url": format!("http://{place}/of/{{{{ event.params.v }}}}/run")}),
            ))
            .await;
        for (value, escaped) in [
            (json!("a b"), "a%20b"),
            (json!("a&admin=1"), "a%26admin%3D1"),
            (json!("x#y"), "x%23y"),
            (json!("ü"), "%C3%BC"),
            (json!("../../admin?x"), "..%2F..%2Fadmin%3Fx"),
            (json!("100%"), "100%25"),
            (json!(17), "17"),
        ] {
            for (config, expected) in
                [("query", format!("/run?name={escaped}")), ("path", format!("/of/{escaped}/run"))]
            {
                let event = world.event(config, json!({"v": value})).await;
                let task = world.ended(world.only(&event).await).await;
                assert_eq!(task["status"], "succeeded", "{task}");
                assert_eq!(asked.recv().await.unwrap().2, expected);
            }
        }
        let event = world.event("path", json!({"v": ".."})).await;
        assert!(world.reason(&event, "path").await.contains("would lead elsewhere"));
    });
}
