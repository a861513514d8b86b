//! Hazard: an overloaded server does not answer probes and is restarted.

use serving::peer::GrpcPeer;
use serving::scoped_rpcs::ScopedRpcs;
use serving::server::{ByteBudget, ConnectionLimits, ListenerProtocol};
use tonic::Code;
use tonic::service::Routes;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::Server;

/// Less than the cost of one request.
const FULL: usize = 1 << 10;

#[tokio::test]
async fn a_full_server_answers_http_probes_and_nothing_else() {
    let server = Server::with(
        ListenerProtocol::Http,
        ConnectionLimits::default(),
        ByteBudget::with_max_bytes(FULL),
    )
    .await;
    let mut raw = server.connect().await;
    raw.get("/quick").await;
    let refused = raw.read_until("}}").await;
    assert!(refused.starts_with("HTTP/1.1 429 ") && refused.contains("OVERLOADED"), "{refused}");
    raw.get("/healthz").await;
    assert!(raw.read_until("alive").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_full_server_answers_health_calls_and_nothing_else() {
    let (routes, health) = serving::grpc::with_reflection_and_health(Routes::default()).unwrap();
    health.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let routes = ScopedRpcs::new(routes, &[]);
    let server = Server::of(
        routes,
        ListenerProtocol::Grpc,
        ConnectionLimits::default(),
        ByteBudget::with_max_bytes(FULL),
    )
    .await;
    let peer = GrpcPeer::at_address(&format!("127.0.0.1:{}", server.port)).unwrap();
    let mut client = HealthClient::new(peer.channel);
    let refused = client.watch(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let answer = client.check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    server.is_even().await;
}
