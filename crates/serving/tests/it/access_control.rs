//! Authentication of all listeners, before a body is read, and the end of calls whose client lost
//! its right.

use std::time::Duration;

use access::{AccessControl, RouteAccess, Scope, TokenHash, parse_clients};
use axum::body::Body;
use axum::extract::Path;
use bytes::Bytes;
use futures::StreamExt as _;
use serving::caller::Caller;
use serving::peer::{GrpcPeer, PeerToken};
use serving::scoped_router::ScopedRouter;
use serving::scoped_rpcs::ScopedRpcs;
use serving::server::{ByteBudget, ConnectionLimits, ListenerProtocol};
use tokio::time::{Instant, sleep};
use tonic::service::Routes;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{Raw, Server};

fn client_yaml(name: &str, scopes: &str, token: &str, expires: &str) -> String {
    let hash = TokenHash::of_token(token.as_bytes()).to_hex();
    format!("  - {{name: {name}, scopes: [{scopes}], tokens: [{{sha256: \"{hash}\"{expires}}}]}}\n")
}

pub fn clients() -> String {
    let mut text = "clients:\n".to_owned();
    text += &client_yaml("reader", "events:read", "reads", "");
    text += &client_yaml("writer", "events:write", "writes", "");
    text += &client_yaml("narrow", "'ledger:read:x'", "narrow", "");
    text += &client_yaml("old", "admin", "expired", ", expires: 2020-01-01T00:00:00Z");
    text + &client_yaml("root", "admin", "rules", "")
}

pub fn control() -> AccessControl {
    AccessControl::new(parse_clients(&clients()).unwrap())
}

pub fn routes() -> ScopedRouter {
    let stream = async || {
        let parts = futures::stream::unfold((), |()| async {
            sleep(Duration::from_millis(50)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b"part\n")), ()))
        });
        Body::from_stream(parts.boxed())
    };
    let poll = async || {
        sleep(Duration::from_secs(60)).await;
        "polled"
    };
    ScopedRouter::new()
        .get("/healthz", RouteAccess::Open, async || "alive")
        .get("/docs", RouteAccess::AnyClient, async || "docs")
        .get("/events", Scope::EventsRead, async |caller: Caller| format!("{:?}", caller.name()))
        .post("/events", Scope::EventsWrite, async |body: Bytes| body)
        .get(
            "/typed/{type}",
            RouteAccess::TypeInPath(Scope::LedgerRead),
            async |Path(p): Path<String>| p,
        )
        .get("/poll", Scope::EventsRead, poll)
        .get("/stream", Scope::EventsRead, stream)
}

async fn serve(control: Option<AccessControl>) -> Server {
    let (limits, budget) = (ConnectionLimits::default(), ByteBudget::default());
    Server::guarded(routes(), ListenerProtocol::Http, limits, budget, control).await
}

pub async fn request(raw: &mut Raw, line: &str, headers: &[&str]) {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    raw.send(format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n"))
        .await;
}

pub async fn answer(server: &Server, line: &str, headers: &[&str]) -> (u16, String) {
    let mut raw = server.connect().await;
    request(&mut raw, line, headers).await;
    let (text, _) = raw.read_to_end().await;
    (text.split(' ').nth(1).unwrap_or("0").parse().unwrap(), text)
}

#[tokio::test]
async fn a_route_is_served_to_clients_with_its_scope() {
    let server = serve(Some(control())).await;
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    for (line, token, status) in [
        ("GET /healthz", "", 200),
        ("GET /healthz", "wrong", 200),
        ("GET /docs", "", 401),
        ("GET /docs", "reads", 200),
        ("GET /events", "", 401),
        ("GET /events", "wrong", 401),
        ("GET /events", "READS", 401),
        ("GET /events", "expired", 401),
        ("GET /events", "writes", 403),
        ("GET /events", "reads", 200),
        ("HEAD /events", "reads", 200),
        ("HEAD /events", "writes", 403),
        ("GET /events", "rules", 200),
        ("DELETE /events", "", 401),
        ("DELETE /events", "reads", 405),
        ("GET /typed/x", "narrow", 200),
        ("GET /typed/%78", "narrow", 200),
        ("GET /typed/y", "narrow", 403),
        ("GET /typed/x%2Fy", "narrow", 403),
        ("GET /typed/y", "rules", 200),
        ("GET /nothing", "", 401),
        ("GET /nothing", "reads", 404),
        ("GET //events", "", 401),
        ("GET /healthz/", "", 401),
        ("GET /healthz/../events", "", 401),
        ("GET /%68ealthz", "", 401),
        ("POST /healthz", "", 401),
        ("GET /events?token=reads&access_token=reads", "", 401),
    ] {
        let header = bearer(token);
        let headers: &[&str] = if token.is_empty() { &[] } else { &[&header] };
        let (given, text) = answer(&server, line, headers).await;
        assert_eq!(given, status, "{line} {token}\n{text}");
        assert_eq!(text.contains("www-authenticate: Bearer"), status == 401, "{text}");
        assert!(token.len() < 5 || !text.contains(token), "{text}");
    }
    let (_, text) = answer(&server, "GET /events", &[&bearer("reads")]).await;
    assert!(text.ends_with("Some(\"reader\")"), "{text}");
    let (_, text) = answer(&server, "GET /events", &[&bearer("writes")]).await;
    assert!(text.contains("events:read"), "{text}");
    for headers in [
        &["Authorization: Bearer reads", "Authorization: Bearer reads"][..],
        &["Authorization: Basic cmVhZHM6"],
        &["Authorization: reads"],
        &["X-Token: reads", "Cookie: token=reads"],
    ] {
        assert_eq!(answer(&server, "GET /events", headers).await.0, 401, "{headers:?}");
    }
    assert_eq!(answer(&server, "GET /events", &["authorization: oAUTH reads"]).await.0, 200);
}

#[tokio::test]
async fn without_clients_everything_is_served() {
    let server = serve(None).await;
    for (line, status) in
        [("GET /docs", 200), ("GET /events", 200), ("GET /typed/x", 200), ("GET /nothing", 404)]
    {
        assert_eq!(answer(&server, line, &[]).await.0, status, "{line}");
    }
    let (status, text) = answer(&server, "GET /events", &["Authorization: Bearer anything"]).await;
    assert!(status == 200 && text.ends_with("None"), "{text}");
}

#[tokio::test]
async fn a_denied_body_is_not_read() {
    let server = serve(Some(control())).await;
    for (headers, status) in [
        ("", "401"),
        ("Authorization: Bearer reads\r\n", "403"),
        ("Authorization: Bearer no\r\n", "401"),
    ] {
        let mut raw = server.connect().await;
        raw.send(format!(
            "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}Content-Length: 1000000\r\n\r\n"
        ))
        .await;
        let text = raw.read_until("\r\n\r\n").await;
        assert!(text.contains(status), "{text}");
    }
}

#[tokio::test]
async fn wrong_tokens_are_limited_by_address() {
    let server = serve(Some(control())).await;
    for n in 1..=35 {
        let wrong = format!("Authorization: Bearer wrong-{n}");
        let (status, text) = answer(&server, "GET /events", &[&wrong]).await;
        assert_eq!(status, if n <= 30 { 401 } else { 429 }, "{text}");
        assert_eq!(text.contains("retry-after:"), n > 30, "{text}");
    }
    assert_eq!(answer(&server, "GET /events", &["Authorization: Bearer reads"]).await.0, 200);
    assert_eq!(answer(&server, "GET /events", &[]).await.0, 401);
}

#[tokio::test]
async fn open_calls_end_when_their_client_loses_its_right() {
    let changes = [
        clients().replace("events:read", "orders:read"),
        clients().replace("name: reader", "name: another"),
    ];
    for changed in changes {
        let control = control();
        let server = serve(Some(control.clone())).await;
        let (mut poll, mut stream, mut other) =
            (server.connect().await, server.connect().await, server.connect().await);
        request(&mut poll, "GET /poll", &["Authorization: Bearer reads"]).await;
        request(&mut stream, "GET /stream", &["Authorization: Bearer reads"]).await;
        request(&mut other, "GET /stream", &["Authorization: Bearer rules"]).await;
        stream.read_until("part").await;
        control.replace_policy(parse_clients(&changed).unwrap());
        let since = Instant::now();
        let (text, _) = poll.read_to_end().await;
        assert!(text.contains("503") && text.contains("lost its right"), "{text}");
        stream.read_to_end().await;
        assert!(since.elapsed() < Duration::from_secs(9), "{:?}", since.elapsed());
        other.read_until("part").await;
        assert!(other.is_open().await);
    }
}

#[tokio::test]
async fn rpcs_are_served_to_clients_with_their_scope() {
    let (rpcs, health) = serving::grpc::with_reflection_and_health(Routes::default()).unwrap();
    health.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let control = control();
    let (limits, budget) = (ConnectionLimits::default(), ByteBudget::default());
    let rpcs = ScopedRpcs::new(rpcs, &[("/x.Y/Z", RouteAccess::Scope(Scope::EventsRead))]);
    let server = Server::guarded(rpcs, ListenerProtocol::Grpc, limits, budget, Some(control)).await;
    let address = format!("127.0.0.1:{}", server.port);
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    for (path, token, code) in [
        ("/x.Y/Z", None, Code::Unauthenticated),
        ("/x.Y/Z", Some("wrong"), Code::Unauthenticated),
        ("/x.Y/Z", Some("expired"), Code::Unauthenticated),
        ("/x.Y/Z", Some("writes"), Code::PermissionDenied),
        ("/x.Y/Z", Some("reads"), Code::Unimplemented),
        ("/x.Y/Z", Some("rules"), Code::Unimplemented),
        ("/x.Y/Unknown", None, Code::Unauthenticated),
        ("/x.Y/Unknown", Some("reads"), Code::Unimplemented),
        (reflection, None, Code::Unauthenticated),
        (reflection, Some("wrong"), Code::Unauthenticated),
    ] {
        let header = token.and_then(access::bearer_header);
        let peer =
            GrpcPeer::with_token(&address, header.map_or(PeerToken::None, PeerToken::Header));
        let mut client = tonic::client::Grpc::new(peer.unwrap().channel);
        client.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let called = client.unary(Request::new(()), path.parse().unwrap(), codec).await;
        let status = called.unwrap_err();
        assert_eq!(status.code(), code, "{path} {token:?} {status}");
        assert!(!token.is_some_and(|token| token.len() > 4 && status.message().contains(token)));
    }
    let peer = GrpcPeer::at_address(&address).unwrap();
    let mut health = HealthClient::new(peer.channel);
    health.check(HealthCheckRequest::default()).await.unwrap();
}

#[tokio::test]
async fn grpc_streams_end_when_their_client_loses_its_right() {
    use tonic_health::pb::HealthCheckResponse;
    use tonic_health::pb::health_server::{Health, HealthServer};
    // A stream that never ends by itself, under a path of the table.
    struct Endless;
    #[tonic::async_trait]
    impl Health for Endless {
        type WatchStream =
            futures::stream::BoxStream<'static, Result<HealthCheckResponse, tonic::Status>>;
        async fn check(
            &self,
            _: Request<HealthCheckRequest>,
        ) -> Result<tonic::Response<HealthCheckResponse>, tonic::Status> {
            sleep(Duration::from_secs(60)).await;
            Err(tonic::Status::internal("not ended"))
        }
        async fn watch(
            &self,
            _: Request<HealthCheckRequest>,
        ) -> Result<tonic::Response<Self::WatchStream>, tonic::Status> {
            Ok(tonic::Response::new(futures::stream::pending().boxed()))
        }
    }
    let table = [
        ("/grpc.health.v1.Health/Watch", RouteAccess::Scope(Scope::EventsRead)),
        ("/grpc.health.v1.Health/Check", RouteAccess::Scope(Scope::EventsRead)),
    ];
    let control = control();
    let rpcs = ScopedRpcs::without_common(Routes::new(HealthServer::new(Endless)), &table);
    let (limits, budget) = (ConnectionLimits::default(), ByteBudget::default());
    let server =
        Server::guarded(rpcs, ListenerProtocol::Grpc, limits, budget, Some(control.clone())).await;
    let token = PeerToken::Header(access::bearer_header("reads").unwrap());
    let peer = GrpcPeer::with_token(&format!("127.0.0.1:{}", server.port), token).unwrap();
    let mut client = HealthClient::new(peer.channel);
    let mut waiting = client.clone();
    let call = tokio::spawn(async move { waiting.check(HealthCheckRequest::default()).await });
    let mut stream = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    let since = Instant::now();
    control
        .replace_policy(parse_clients(&clients().replace("events:read", "orders:read")).unwrap());
    let status = stream.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(call.await.unwrap().unwrap_err().code(), Code::Unavailable);
    assert!(since.elapsed() < Duration::from_secs(9));
}
