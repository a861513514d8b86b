//! Hazard: request bodies exceed the memory budget or never end.

use std::time::Duration;

use serving::server::{ByteBudget, ConnectionLimits, ListenerProtocol};

use crate::harness::Server;

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

#[tokio::test]
async fn a_body_that_never_ends_is_given_up() {
    let limits = ConnectionLimits {
        body_timeout: Duration::from_millis(200),
        ..ConnectionLimits::default()
    };
    let server = Server::http(limits).await;
    let mut raw = server.connect().await;
    raw.post("/echo", 100, b"{\"a\":").await;
    let answer = raw.read_until("}}").await;
    assert_eq!(status(&answer), "504", "{answer}");
    assert!(answer.contains("TIMEOUT"), "{answer}");
    server.is_even().await;
}

#[tokio::test]
async fn bodies_share_a_budget_and_small_ones_and_probes_keep_their_part() {
    let server = Server::with(
        ListenerProtocol::Http,
        ConnectionLimits::default(),
        ByteBudget::with_max_bytes(4 << 20),
    )
    .await;
    let part = vec![b' '; 1 << 20];
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut raw = server.connect().await;
        raw.post("/echo", 2 << 20, &part).await;
        held.push(raw);
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    while server.budget.used_bytes() < 3 << 20 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut refused = server.connect().await;
    refused.post("/echo", part.len(), &part).await;
    let answer = refused.read_until("}}").await;
    assert_eq!(status(&answer), "429", "{answer}");
    assert!(
        answer.contains("OVERLOADED") && answer.to_lowercase().contains("retry-after: 1"),
        "{answer}"
    );
    let mut small = server.connect().await;
    small.post("/echo", 2, b"{}").await;
    assert_eq!(status(&small.read_until("{}").await), "200");
    let mut probe = server.connect().await;
    probe.get("/healthz").await;
    assert_eq!(status(&probe.read_until("alive").await), "200");
    drop((held, refused));
    server.is_even().await;
    let mut raw = server.connect().await;
    raw.post("/echo", 2, b"[]").await;
    assert_eq!(status(&raw.read_until("[]").await), "200");
}

#[tokio::test]
async fn a_body_that_cannot_be_taken_is_refused_before_it_is_asked_for() {
    let server = Server::http(ConnectionLimits::default()).await;
    for (head, answered, word) in [
        ("Content-Length: 99000000", "413", "larger than 8 MiB"),
        (
            "Content-Length: 2\r\nContent-Encoding: gzip",
            "415",
            "Content-Encoding: `gzip` is not taken",
        ),
        ("Transfer-Encoding: chunked\r\nContent-Encoding: br", "415", "`br`"),
    ] {
        let mut raw = server.connect().await;
        let common = "Host: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue";
        raw.send(format!("POST /echo HTTP/1.1\r\n{common}\r\n{head}\r\n\r\n")).await;
        let answer = raw.read_until("}}").await;
        assert_eq!(status(&answer), answered, "{head}: {answer}");
        assert!(answer.contains(word), "{head}: {answer}");
    }
    let mut latin = server.connect().await;
    let head = "Host: localhost\r\nContent-Type: application/json; charset=iso-8859-1\r\nContent-Length: 3";
    latin.send(format!("POST /echo HTTP/1.1\r\n{head}\r\n\r\n")).await;
    latin.send(b"\"\xe4\"").await;
    let answer = latin.read_until("}}").await;
    assert!(
        status(&answer) == "415" && answer.contains("the charset `iso-8859-1` is not taken"),
        "{answer}"
    );
    server.is_even().await;
}

#[tokio::test]
async fn a_body_of_single_bytes_costs_what_it_makes_the_server_hold() {
    let server = Server::with(
        ListenerProtocol::Http,
        ConnectionLimits::default(),
        ByteBudget::with_max_bytes(1 << 20),
    )
    .await;
    let mut raw = server.connect().await;
    let head =
        "Content-Type: application/json\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    raw.send(format!("POST /echo HTTP/1.1\r\n{head}")).await;
    raw.send("1\r\nx\r\n".repeat(20_000)).await;
    let answer = raw.read_until("}}").await;
    assert_eq!(status(&answer), "429", "{answer}");
}
