//! Promise: every route and every rpc is served to clients with its scope and to nobody else. The
//! cells are made from the registered routes, over real sockets.

use std::collections::BTreeSet;

use access::{AccessControl, RouteAccess, Scope, TokenHash, bearer_header, parse_clients};
use http::Method;
use order_service::orders::api::ORDER_SERVICE_RPCS;
use serving::http_guard::AllowedHosts;
use serving::listen::{LOOPBACK_ADDRESSES, PortListeners};
use serving::ops::{self, ServerReadiness};
use serving::peer::{GrpcPeer, PeerToken};
use serving::scoped_rpcs::{ScopedRpcs, ServedRoutes};
use serving::server::{
    ByteBudget, ClientLimiter, ConnectionLimits, ListenerProtocol, ServerOptions,
};
use store::testing::run_test;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::service::Routes;

use crate::described::world::World;

/// One client for each scope, with the scope's name as its token; and an expired one.
fn control() -> AccessControl {
    let mut text = "clients:\n".to_owned();
    let expired = ("expired", Scope::Admin, ", expires: 2020-01-01T00:00:00Z");
    let clients = Scope::ALL.map(|scope| (scope.name(), scope, "")).into_iter().chain([expired]);
    for (n, (token, scope, expires)) in clients.enumerate() {
        let hash = TokenHash::of_token(token.as_bytes()).to_hex();
        text += &format!(
            "  - {{name: c{n}, scopes: ['{scope}'], tokens: [{{sha256: '{hash}'{expires}}}]}}\n"
        );
    }
    AccessControl::new(parse_clients(&text).unwrap())
}

async fn serve(routes: impl Into<ServedRoutes>, protocol: ListenerProtocol) -> u16 {
    let listeners = PortListeners::bind(&LOOPBACK_ADDRESSES[..1], 0, "--port").await.unwrap();
    let port = listeners.port();
    let options = ServerOptions {
        protocol,
        hosts: AllowedHosts::with_loopback([]),
        limits: ConnectionLimits::default(),
        budget: ByteBudget::default(),
        client_limiter: ClientLimiter::default(),
        access: Some(control()),
        tls: None,
    };
    serving::server::serve_routes(listeners, routes, options, CancellationToken::new());
    port
}

async fn status_of(port: u16, method: &Method, pattern: &str, token: &str) -> u16 {
    let path = pattern.replace(['{', '}'], "");
    let authorization = match token {
        "" => String::new(),
        token => format!("Authorization: Bearer {token}\r\n"),
    };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{authorization}\
         Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
    );
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let text = String::from_utf8_lossy(&answer);
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(status != 401 || !text.contains("expired"), "{text}");
    status
}

/// Whether a token opens a route.
fn is_allowed(token: &str, access: RouteAccess) -> bool {
    match access {
        RouteAccess::Open => true,
        RouteAccess::AnyClient => Scope::ALL.iter().any(|scope| scope.name() == token),
        RouteAccess::Scope(scope)
        | RouteAccess::TypeInPath(scope)
        | RouteAccess::TypeInBody(scope) => token == scope.name() || token == "admin",
    }
}

fn tokens() -> impl Iterator<Item = &'static str> {
    ["", "wrong", "expired"].into_iter().chain(Scope::ALL.map(Scope::name))
}

#[test]
fn every_route_is_served_to_clients_with_its_scope_alone() {
    run_test(async {
        let world = World::new().await;
        let metrics = ops::install_metrics().unwrap();
        let probes = ops::ops_routes(ServerReadiness::not_ready("test"), metrics);
        let routes = world.scoped.clone().merge(probes);
        let list = routes.routes().to_vec();
        assert!(list.len() > 40, "{list:?}");
        let mut port = serve(routes.clone(), ListenerProtocol::Http).await;
        let mut wrong_tokens = 0;
        for route in &list {
            for token in tokens() {
                wrong_tokens += u32::from(matches!(token, "wrong" | "expired"));
                if wrong_tokens > 30 {
                    // Another server has not yet seen wrong tokens.
                    (port, wrong_tokens) = (serve(routes.clone(), ListenerProtocol::Http).await, 1);
                }
                let status = status_of(port, &route.method, route.pattern, token).await;
                let is_known = is_allowed(token, RouteAccess::AnyClient);
                let expected = match is_allowed(token, route.access) {
                    true => !matches!(status, 401 | 403 | 429),
                    false => status == if is_known { 403 } else { 401 },
                };
                assert!(expected, "{route:?} {token:?}: {status}");
            }
        }
    });
}

#[test]
fn every_rpc_is_served_to_clients_with_its_scope_alone() {
    run_test(async {
        for (path, access) in ORDER_SERVICE_RPCS {
            let rpcs = ScopedRpcs::new(Routes::default(), &ORDER_SERVICE_RPCS);
            let port = serve(rpcs, ListenerProtocol::Grpc).await;
            for token in tokens() {
                let token_header = bearer_header(token).map_or(PeerToken::None, PeerToken::Header);
                let peer = GrpcPeer::with_token(&format!("127.0.0.1:{port}"), token_header);
                let mut client = tonic::client::Grpc::new(peer.unwrap().channel);
                client.ready().await.unwrap();
                let codec = tonic_prost::ProstCodec::<(), ()>::default();
                let called =
                    client.unary(tonic::Request::new(()), path.parse().unwrap(), codec).await;
                let is_known = is_allowed(token, RouteAccess::AnyClient);
                let expected = match is_allowed(token, access) {
                    // The call reached the services, of which there are none here.
                    true => Code::Unimplemented,
                    false if is_known => Code::PermissionDenied,
                    false => Code::Unauthenticated,
                };
                assert_eq!(called.unwrap_err().code(), expected, "{path} {token:?}");
            }
        }
    });
}

#[test]
fn every_rpc_of_the_service_has_its_access() {
    let paths = serving::grpc::rpc_paths(proto::FILE_DESCRIPTOR_SET).into_iter();
    let ours: BTreeSet<String> = paths.filter(|path| path.starts_with("/order_service.")).collect();
    let table = ORDER_SERVICE_RPCS.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(ours, table);
}

/// Where `docs/security.md` has the table of routes.
const TABLE_BEGIN: &str = "| method | path | needs |\n| --- | --- | --- |\n";

#[test]
fn the_page_lists_every_route_and_rpc_with_its_scope() {
    run_test(async {
        let world = World::new().await;
        let page = include_str!("../../../docs/security.md");
        let mut lines: BTreeSet<String> = world
            .scoped
            .routes()
            .iter()
            .map(|route| {
                format!("| {} | `{}` | `{}` |", route.method, route.pattern, route.access.label())
            })
            .collect();
        lines.extend(
            ORDER_SERVICE_RPCS
                .iter()
                .map(|(path, access)| format!("| rpc | `{path}` | `{}` |", access.label())),
        );
        let table = page.split(TABLE_BEGIN).nth(1).unwrap();
        let shown: BTreeSet<String> =
            table.lines().take_while(|line| line.starts_with('|')).map(str::to_owned).collect();
        let missing: Vec<_> = lines.symmetric_difference(&shown).collect();
        assert!(missing.is_empty(), "in the page or in the routers alone: {missing:#?}");
    });
}
