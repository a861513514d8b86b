//! Hazard: connections that occupy the server without making progress.

use std::time::Duration;

use serving::server::{ByteBudget, ConnectionLimits, ListenerProtocol};
use tokio::time::timeout;

use crate::harness::{PATIENCE, Raw, Server};

const MS: fn(u64) -> Duration = Duration::from_millis;

fn limits() -> ConnectionLimits {
    ConnectionLimits {
        header_timeout: MS(200),
        idle_timeout: MS(400),
        ..ConnectionLimits::default()
    }
}

#[tokio::test]
async fn half_a_head_silence_and_half_a_preface_are_closed_in_time() {
    for protocol in [ListenerProtocol::Http, ListenerProtocol::Grpc] {
        let server = Server::with(protocol, limits(), ByteBudget::default()).await;
        for sent in
            ["", "GET /quick HT", "GET /quick HTTP/1.1\r\nHost: loc", "PRI * HTTP/2.0\r\n\r\nS"]
        {
            let mut raw = server.connect().await;
            raw.send(sent).await;
            let (_, took) = raw.read_to_end().await;
            assert!(took < MS(2000), "{protocol:?} {sent:?}: {took:?}");
        }
    }
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_has_no_more_time_than_another() {
    let server = Server::http(limits()).await;
    let mut raw = server.connect().await;
    raw.get("/quick").await;
    raw.read_until("quick\n").await;
    let dripping = async {
        loop {
            raw.send("x").await;
            tokio::time::sleep(MS(20)).await;
            if !raw.is_open().await {
                return;
            }
        }
    };
    timeout(PATIENCE, dripping).await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_serves_until_its_time_is_up() {
    let server = Server::http(limits()).await;
    let mut raw = server.connect().await;
    for _ in 0..3 {
        raw.get("/quick").await;
        assert!(raw.read_until("quick\n").await.starts_with("HTTP/1.1 200 OK"));
        tokio::time::sleep(MS(250)).await;
    }
    let (_, took) = raw.read_to_end().await;
    assert!(took < MS(2000), "{took:?}");
}

#[tokio::test]
async fn an_idle_http2_connection_is_asked_to_go() {
    let server = Server::with(ListenerProtocol::Grpc, limits(), ByteBudget::default()).await;
    let mut raw = server.connect().await;
    raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    let (_, took) = raw.read_to_end().await;
    assert!((MS(350)..MS(3000)).contains(&took), "longer than a head may take: {took:?}");
}

#[tokio::test]
async fn a_request_at_work_keeps_its_connection() {
    let server = Server::http(limits()).await;
    let mut raw = server.connect().await;
    raw.get("/slow").await;
    assert!(raw.read_until("slow\n").await.ends_with("slow\n"));
}

#[tokio::test]
async fn when_all_places_are_taken_the_longest_idle_makes_room() {
    let limits = ConnectionLimits {
        max_connections: 8,
        max_connections_per_address: 4,
        ..ConnectionLimits::default()
    };
    let server = Server::http(limits).await;
    let mut idle: Vec<Raw> = Vec::new();
    for _ in 0..4 {
        let mut raw = server.connect().await;
        raw.get("/quick").await;
        raw.read_until("quick\n").await;
        idle.push(raw);
    }
    idle[0].get("/slow").await;
    let mut fifth = server.connect().await;
    fifth.get("/quick").await;
    assert!(fifth.read_until("quick\n").await.ends_with("quick\n"));
    assert!(idle[0].read_until("slow\n").await.ends_with("slow\n"), "it was at work");
    assert!(!idle[1].is_open().await);
    assert!(idle[2].is_open().await && idle[3].is_open().await);
}

#[tokio::test]
async fn an_old_connection_finishes_what_it_has_begun_and_no_more() {
    let server = Server::http(ConnectionLimits {
        max_age: MS(200),
        header_timeout: MS(200),
        ..ConnectionLimits::default()
    })
    .await;
    let mut raw = server.connect().await;
    raw.get("/slow").await;
    let (answer, _) = raw.read_to_end().await;
    assert!(answer.ends_with("slow\n"), "{answer}");
}

#[tokio::test]
async fn a_stopping_server_finishes_its_requests_and_waits_for_nobody_else() {
    let server = Server::http(ConnectionLimits::default()).await;
    let (mut working, mut idle, mut silent) =
        (server.connect().await, server.connect().await, server.connect().await);
    idle.get("/quick").await;
    idle.read_until("quick\n").await;
    working.get("/slow").await;
    tokio::time::sleep(MS(100)).await;
    server.stop.cancel();
    timeout(MS(3000), server.serving.wait_until_closed()).await.unwrap();
    assert!(working.read_to_end().await.0.ends_with("slow\n"));
    assert!(!idle.is_open().await && !silent.is_open().await);
    assert!(tokio::net::TcpStream::connect(("127.0.0.1", server.port)).await.is_err());
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_given_up() {
    let limits = ConnectionLimits {
        write_timeout: MS(300),
        header_timeout: MS(300),
        ..ConnectionLimits::default()
    };
    let server = Server::http(limits).await;
    let mut raw = server.connect().await;
    raw.get("/large").await;
    raw.read_until("200 OK").await;
    assert!(server.budget.used_bytes() >= crate::harness::LARGE / 2);
    server.is_even().await;
}

#[tokio::test]
async fn what_is_no_request_is_answered_in_the_vocabulary() {
    let server = Server::http(ConnectionLimits::default()).await;
    let long = "x".repeat(20 << 10);
    for (head, status, code) in [
        (format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"), 414, "TOO_LARGE"),
        (
            format!("GET / HTTP/1.1\r\nHost: localhost\r\nA: {long}\r\nB: {long}\r\n\r\n"),
            431,
            "TOO_LARGE",
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "A: b\r\n".repeat(200)),
            431,
            "TOO_LARGE",
        ),
        ("what is this\r\n\r\n".to_owned(), 400, "VALIDATION_ERROR"),
    ] {
        let mut raw = server.connect().await;
        raw.send(&head).await;
        let answer = raw.read_until("}}").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{answer}");
    }
}
