//! Hazard: an endless, slow or invalid response blocks a worker or fills its memory.

use std::time::{Duration, Instant};

use events::task_types::http_request::WebhookConnector;
use serde_json::{Value, json};
use store::testing::run_test;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::harness::{World, webhook};

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n";

/// Misbehaving responses, selected by path.
async fn answer(mut stream: TcpStream) {
    let mut asked = vec![0; 4096];
    let read = stream.read(&mut asked).await.unwrap();
    let asked = String::from_utf8_lossy(&asked[..read]).into_owned();
    let path = asked.split(' ').nth(1).unwrap_or_default();
    let block = "x".repeat(4096);
    let (first, then) = match path {
        "/silent" => (String::new(), String::new()),
        "/stalls" => (format!("{HEAD}Content-Length: 1000\r\n\r\nbegun"), String::new()),
        "/half" => {
            let half = format!("{HEAD}Content-Length: 1000\r\n\r\nbegun");
            return stream.write_all(half.as_bytes()).await.unwrap();
        }
        "/endless" => {
            (format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n"), format!("1000\r\n{block}\r\n"))
        }
        "/long" => (format!("{HEAD}Content-Length: 1000000000000\r\n\r\n"), block),
        "/head" => (HEAD.to_owned(), format!("X-More: {block}\r\n")),
        "/headers" => (HEAD.to_owned(), "X: y\r\n".repeat(500)),
        _ => ("SSH-2.0-OpenSSH_9.6\r\n".to_owned(), String::new()),
    };
    stream.write_all(first.as_bytes()).await.unwrap();
    // Writes until the client closes the connection.
    while !then.is_empty() && stream.write_all(then.as_bytes()).await.is_ok() {}
    let _ = stream.read(&mut [0; 1]).await;
}

async fn server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(answer(stream));
        }
    });
    place
}

#[test]
fn every_answer_has_its_bounds() {
    run_test(async {
        let (world, stop, place) = (World::fresh().await, CancellationToken::new(), server().await);
        let _worker = world.worker_with(WebhookConnector::new([place.clone()], []), &stop).await;
        let ended = async |path: &str| -> (Value, Duration) {
            let url = format!("http://{place}/{path}");
            let mut config = webhook(path, json!({"url": url, "timeout_seconds": 1}));
            config["action"]["max_attempts"] = 1.into();
            world.config(config).await;
            let began = Instant::now();
            let event = world.event(path, json!({})).await;
            (world.ended(world.only(&event).await).await, began.elapsed())
        };
        // The beginning is kept; the rest is not awaited.
        for path in ["endless", "long"] {
            let (task, _) = ended(path).await;
            let outcome = json!({"status": 200, "body": "x".repeat(2000)});
            assert_eq!(
                (&task["status"], &task["outcome"]),
                (&json!("succeeded"), &outcome),
                "{path}"
            );
        }
        for (path, words) in [
            ("silent", "TIMEOUT: no answer within 1s"),
            ("stalls", "TIMEOUT: no answer within 1s"),
            ("half", "UNAVAILABLE"),
            ("head", "UNAVAILABLE"),
            ("headers", "UNAVAILABLE"),
            ("nonsense", "UNAVAILABLE"),
        ] {
            let (task, took) = ended(path).await;
            let error = task["error"].as_str().unwrap_or_default();
            assert!(task["status"] == "failed" && error.contains(words), "{path}: {task}");
            assert!(took < Duration::from_secs(20), "{path}: {took:?}");
        }
    });
}
