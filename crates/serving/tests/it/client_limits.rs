//! Promise: a client that asks too much is told to wait, before its body is read, and no other
//! client notices.

use std::time::Duration;

use access::{AccessControl, RouteAccess, Scope, parse_clients};
use serving::peer::{GrpcPeer, PeerToken};
use serving::scoped_rpcs::ScopedRpcs;
use serving::server::{ClientLimits, ListenerProtocol};
use tokio::time::{sleep, timeout};
use tonic::service::Routes;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

use crate::access_control::{answer, clients, control, request, routes};
use crate::harness::{PATIENCE, Server};

const READS: &[&str] = &["Authorization: Bearer reads"];
const RULES: &[&str] = &["Authorization: Bearer rules"];

async fn serve(has_clients: bool, limits: ClientLimits) -> Server {
    let access = has_clients.then(control);
    Server::limited(routes(), ListenerProtocol::Http, access, limits).await
}

#[tokio::test]
async fn a_flood_is_refused_and_other_clients_and_probes_are_served() {
    let server = serve(true, ClientLimits { rate: 3, concurrency: 0 }).await;
    let mut refused = 0;
    for n in 0..20 {
        let (status, text) = answer(&server, "GET /events", READS).await;
        assert!(status == 200 || n >= 3, "a second's requests may come at once: {text}");
        if status != 200 {
            assert_eq!(status, 429, "{text}");
            assert!(text.contains("retry-after: 1") && text.contains("OVERLOADED"), "{text}");
            refused += 1;
        }
        assert_eq!(answer(&server, "GET /healthz", &[]).await.0, 200);
    }
    assert!(refused > 0);
    assert_eq!(answer(&server, "GET /events", RULES).await.0, 200);
    let served_again = async {
        while answer(&server, "GET /events", READS).await.0 != 200 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(2), served_again).await.unwrap();
}

#[tokio::test]
async fn requests_at_a_time_are_counted_until_their_answer_is_sent() {
    let server = serve(true, ClientLimits { rate: 0, concurrency: 1 }).await;
    let mut stream = server.connect().await;
    request(&mut stream, "GET /stream", READS).await;
    stream.read_until("part").await;
    let (status, text) = answer(&server, "GET /events", READS).await;
    assert!(status == 429 && text.contains("retry-after: 1"), "{text}");
    assert_eq!(answer(&server, "GET /events", RULES).await.0, 200);
    drop(stream);
    let served_again = async {
        while answer(&server, "GET /events", READS).await.0 != 200 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, served_again).await.unwrap();
}

#[tokio::test]
async fn a_client_of_the_file_can_have_limits_of_its_own() {
    let limited = clients().replace("name: reader", "rate: 1, name: reader");
    let free = clients().replace("name: reader", "rate: 0, concurrency: 0, name: reader");
    for (text, rate, is_limited) in [(limited, 0, true), (free, 1, false)] {
        let access = Some(AccessControl::new(parse_clients(&text).unwrap()));
        let limits = ClientLimits { rate, concurrency: 0 };
        let server = Server::limited(routes(), ListenerProtocol::Http, access, limits).await;
        let mut statuses = Vec::new();
        for _ in 0..5 {
            statuses.push(answer(&server, "GET /events", READS).await.0);
        }
        assert_eq!(statuses.contains(&429), is_limited, "{statuses:?}");
    }
}

#[tokio::test]
async fn without_clients_an_address_is_a_client() {
    let server = serve(false, ClientLimits { rate: 1, concurrency: 0 }).await;
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(answer(&server, "GET /events", &[]).await.0);
    }
    assert_eq!(statuses[0], 200);
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!(answer(&server, "GET /healthz", &[]).await.0, 200);
}

#[tokio::test]
async fn the_body_of_a_refused_request_is_not_read() {
    let server = serve(true, ClientLimits { rate: 1, concurrency: 0 }).await;
    let head = "POST /events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer writes\r\n\
                Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n";
    let mut first = server.connect().await;
    first.send(head).await;
    let refused = async {
        loop {
            let mut next = server.connect().await;
            next.send(head).await;
            // The first request waits for its body.
            let text = timeout(Duration::from_millis(500), next.read_until("\r\n\r\n")).await;
            if let Ok(text) = text {
                return text;
            }
        }
    };
    let text = timeout(PATIENCE, refused).await.unwrap();
    assert!(text.contains("429") && text.contains("retry-after: 1"), "{text}");
}

#[tokio::test]
async fn a_refused_call_says_when_to_try_again() {
    let (rpcs, health) = serving::grpc::with_reflection_and_health(Routes::default()).unwrap();
    health.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let rpcs = ScopedRpcs::new(rpcs, &[("/x.Y/Z", RouteAccess::Scope(Scope::EventsRead))]);
    let limits = ClientLimits { rate: 2, concurrency: 0 };
    let server = Server::limited(rpcs, ListenerProtocol::Grpc, Some(control()), limits).await;
    let address = format!("127.0.0.1:{}", server.port);
    let call = async |token: &str| {
        let token = PeerToken::Header(access::bearer_header(token).unwrap());
        let mut client =
            tonic::client::Grpc::new(GrpcPeer::with_token(&address, token).unwrap().channel);
        client.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        client.unary(Request::new(()), "/x.Y/Z".parse().unwrap(), codec).await.unwrap_err()
    };
    let mut refused = Vec::new();
    for n in 0..10 {
        let status = call("reads").await;
        // The server has no such service: a call that is let in is not implemented.
        assert!(status.code() == Code::Unimplemented || n >= 2, "{status}");
        if status.code() != Code::Unimplemented {
            refused.push(status);
        }
    }
    assert!(!refused.is_empty());
    for status in refused {
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        let delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
        assert_eq!(delay, Some(Duration::from_secs(1)));
    }
    assert_eq!(call("rules").await.code(), Code::Unimplemented);
    let mut health = HealthClient::new(GrpcPeer::at_address(&address).unwrap().channel);
    for _ in 0..10 {
        health.check(HealthCheckRequest::default()).await.unwrap();
    }
}

#[tokio::test]
async fn callers_without_credentials_hold_a_bounded_number_of_small_calls() {
    let (rpcs, health) = serving::grpc::with_reflection_and_health(Routes::default()).unwrap();
    health.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let rpcs = ScopedRpcs::new(rpcs, &[]);
    let limits = ClientLimits::default();
    let server = Server::limited(rpcs, ListenerProtocol::Grpc, Some(control()), limits).await;
    let peer = GrpcPeer::at_address(&format!("127.0.0.1:{}", server.port)).unwrap();
    let mut client = HealthClient::new(peer.channel);
    let mut watches = Vec::new();
    for _ in 0..64 {
        watches.push(client.watch(HealthCheckRequest::default()).await.unwrap());
    }
    let refused = client.watch(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    client.check(HealthCheckRequest::default()).await.unwrap();
    let large = HealthCheckRequest { service: "x".repeat(10_000) };
    let refused = client.check(large).await.unwrap_err();
    assert!(refused.message().contains("at most 4096"), "{refused}");
}
