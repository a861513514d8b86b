//! Hazard: a caller without TLS, with a wrong certificate or without the right one is served, or a
//! slow handshake or a change of the files fails the calls of others.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use access::{AccessControl, Scope, TokenHash, parse_clients};
use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serving::caller::Caller;
use serving::peer::{GrpcPeer, PeerToken, is_connection_failure};
use serving::scoped_router::ScopedRouter;
use serving::scoped_rpcs::ScopedRpcs;
use serving::server::{ByteBudget, ConnectionLimits, ListenerProtocol};
use serving::tls::{ClientTls, ServerTls, TlsFileKind, find_tls_error};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::service::Routes;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::authority::{Authority, Files, Issued, LATER};
use crate::harness::{PATIENCE, Server};

fn clients(certificates: &str) -> String {
    let hash = |token: &str| TokenHash::of_token(token.as_bytes()).to_hex();
    format!(
        "clients:\n  - {{name: robot, scopes: [events:read], certificates: [{certificates}]}}\n  \
         - {{name: shop, scopes: [events:read], tokens: [{{sha256: '{}'}}]}}\n",
        hash("shop-token")
    )
}

fn routes() -> ScopedRouter {
    let stream = async || {
        let parts = futures::stream::unfold((), |()| async {
            sleep(Duration::from_millis(50)).await;
            Some((Ok::<_, io::Error>(Bytes::from_static(b"part\n")), ()))
        });
        Body::from_stream(parts.boxed())
    };
    ScopedRouter::new()
        .get("/name", Scope::EventsRead, async |caller: Caller| format!("{:?}", caller.name()))
        .get("/stream", Scope::EventsRead, stream)
}

async fn serve(files: &Files, access: Option<AccessControl>) -> Server {
    let (limits, budget) = (ConnectionLimits::default(), ByteBudget::default());
    let tls = ServerTls::open(files.paths()).unwrap();
    Server::secured(routes(), ListenerProtocol::Http, limits, budget, access, Some(tls)).await
}

fn client(authority: &Authority, identity: Option<&Issued>) -> ClientTls {
    ClientTls::open(Files::new(identity, &[authority]).paths(), &[]).unwrap()
}

async fn connect(tls: &ClientTls, port: u16) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(tls.config()).connect(name, stream).await
}

async fn send(stream: &mut TlsStream<TcpStream>, path: &str, token: &str) -> io::Result<()> {
    let token = match token {
        "" => String::new(),
        token => format!("Authorization: Bearer {token}\r\n"),
    };
    let head =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{token}\r\n");
    stream.write_all(head.as_bytes()).await
}

/// Status and text of the answer to `GET /name`, on a connection of its own.
async fn call(tls: &ClientTls, port: u16, token: &str) -> io::Result<(u16, String)> {
    let mut stream = connect(tls, port).await?;
    send(&mut stream, "/name", token).await?;
    let mut text = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut text)).await??;
    Ok((text.split(' ').nth(1).unwrap_or("0").parse().unwrap(), text))
}

/// The certificate that the server shows.
async fn shown(tls: &ClientTls, port: u16) -> CertificateDer<'static> {
    let stream = connect(tls, port).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}

fn server_files(authority: &Authority, client_authorities: &[&Authority]) -> Files {
    Files::new(Some(&authority.issue(&["dns:localhost"], LATER)), client_authorities)
}

#[tokio::test]
async fn plaintext_and_old_versions_are_refused() {
    let authority = Authority::new();
    let server = serve(&server_files(&authority, &[]), None).await;
    let mut plain = server.connect().await;
    plain.get("/name").await;
    let (answer, _) = plain.read_to_end().await;
    assert!(!answer.contains("HTTP/"), "{answer}");
    // A ClientHello of TLS 1.1, with one cipher suite and one signature algorithm.
    let mut hello = vec![0x16, 3, 1, 0, 55, 1, 0, 0, 51, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0, 0x2f, 1, 0, 0, 8, 0, 13, 0, 4, 0, 2, 4, 3]);
    let mut old = server.connect().await;
    old.send(hello).await;
    let mut alert = Vec::new();
    timeout(PATIENCE, old.0.read_to_end(&mut alert)).await.unwrap().unwrap();
    let protocol_version = 70;
    assert_eq!((alert.first(), alert.last()), (Some(&0x15), Some(&protocol_version)), "{alert:?}");
    assert_eq!(call(&client(&authority, None), server.port, "").await.unwrap().0, 200);
}

#[tokio::test]
async fn servers_are_checked_by_authority_and_name() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = serve(&server_files(&authority, &[]), None).await;
    let wrong_authority = call(&client(&other, None), server.port, "").await.unwrap_err();
    assert!(find_tls_error(&wrong_authority).is_some(), "{wrong_authority}");
    let files = Files::new(Some(&authority.issue(&["dns:elsewhere.example"], LATER)), &[]);
    let server = serve(&files, None).await;
    let wrong_name = call(&client(&authority, None), server.port, "").await.unwrap_err();
    assert!(wrong_name.to_string().contains("not valid for name"), "{wrong_name}");
}

#[tokio::test]
async fn a_certificate_names_its_client_and_no_other() {
    let (authority, callers, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let files = server_files(&authority, &[&callers]);
    let access = AccessControl::new(
        parse_clients(&clients("'dns:robot.example', 'uri:spiffe://example/robot'")).unwrap(),
    );
    let server = serve(&files, Some(access)).await;
    for (names, token, expected) in [
        (&[][..], "", Ok((401, "UNAUTHENTICATED"))),
        (&[], "shop-token", Ok((200, "shop"))),
        (&["dns:robot.example"], "", Ok((200, "robot"))),
        (&["dns:x.example", "uri:spiffe://example/robot"], "", Ok((200, "robot"))),
        (&["dns:Robot.example"], "", Ok((401, "certificate"))),
        (&["dns:other.example"], "", Ok((401, "certificate"))),
        (&["dns:other.example"], "shop-token", Ok((200, "shop"))),
        (&["cn:robot.example"], "", Ok((401, "certificate"))),
        (&["dns:robot.example"], "shop-token", Ok((401, "not all of one client"))),
        (&["dns:robot.example"], "wrong", Ok((401, "token"))),
        (&["dns:robot.example", "expired:"], "", Err(())),
        (&["dns:robot.example", "expired:"], "shop-token", Err(())),
        (&["dns:robot.example", "stranger:"], "", Err(())),
        (&["dns:robot.example", "stranger:"], "shop-token", Err(())),
    ] {
        let year = if names.contains(&"expired:") { 2021 } else { LATER };
        let issuer = if names.contains(&"stranger:") { &strangers } else { &callers };
        let identity = (!names.is_empty()).then(|| issuer.issue(names, year));
        let called = call(&client(&authority, identity.as_ref()), server.port, token).await;
        match (&called, expected) {
            (Ok((status, text)), Ok((expected, part))) => {
                assert!(*status == expected && text.contains(part), "{names:?} {token} {called:?}");
            }
            (Err(_), Err(())) => {}
            _ => panic!("{names:?} {token} {called:?}"),
        }
    }
}

#[tokio::test]
async fn a_stream_ends_when_its_certificate_is_no_longer_its_clients() {
    let authority = Authority::new();
    let access = AccessControl::new(parse_clients(&clients("'dns:robot.example'")).unwrap());
    let server = serve(&server_files(&authority, &[&authority]), Some(access.clone())).await;
    let identity = authority.issue(&["dns:robot.example"], LATER);
    let mut stream = connect(&client(&authority, Some(&identity)), server.port).await.unwrap();
    send(&mut stream, "/stream", "").await.unwrap();
    let mut bytes = [0; 1024];
    assert!(stream.read(&mut bytes).await.unwrap() > 0);
    let changed = Instant::now();
    access.replace_policy(parse_clients(&clients("'dns:new.example'")).unwrap());
    let ended = async { while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {} };
    timeout(PATIENCE, ended).await.unwrap();
    assert!(changed.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn grpc_peers_call_each_other_with_certificates() {
    let (authority, callers) = (Authority::new(), Authority::new());
    let files = server_files(&authority, &[&callers]);
    let access = AccessControl::new(parse_clients(&clients("'dns:robot.example'")).unwrap());
    let tls = ServerTls::open(files.paths()).unwrap();
    let (_, health) = tonic_health::server::health_reporter();
    let rpcs = ScopedRpcs::without_common(
        Routes::new(health),
        &[("/grpc.health.v1.Health/Check", Scope::EventsRead.into())],
    );
    let (limits, budget) = (ConnectionLimits::default(), ByteBudget::default());
    let grpc = ListenerProtocol::Grpc;
    let server = Server::secured(rpcs, grpc, limits, budget, Some(access), Some(tls)).await;
    let robot = callers.issue(&["dns:robot.example"], LATER);
    for (trusted, identity, code) in [
        (Some(&authority), Some(&robot), Some(Code::Ok)),
        (Some(&authority), None, Some(Code::Unauthenticated)),
        (Some(&callers), Some(&robot), None),
        (None, None, None),
    ] {
        let tls = trusted.map(|trusted| {
            ClientTls::open(Files::new(identity, &[trusted]).paths(), &[b"h2"]).unwrap()
        });
        let address = format!("localhost:{}", server.port);
        let peer = GrpcPeer::with_tls(&address, PeerToken::None, tls).unwrap();
        let request = Request::new(HealthCheckRequest { service: String::new() });
        let checked = HealthClient::new(peer.channel).check(request).await;
        // `None`: there was no connection.
        let found = match &checked {
            Ok(_) => Some(Code::Ok),
            Err(status) => (!is_connection_failure(status)).then_some(status.code()),
        };
        assert_eq!(found, code, "{checked:?}");
    }
    let explained = GrpcPeer::with_tls("https://a:1", PeerToken::None, None).map(drop);
    assert!(explained.unwrap_err().contains("--peer-tls-ca"));
}

#[tokio::test]
async fn files_change_under_load_and_no_call_fails() {
    let authority = Authority::new();
    let files = Arc::new(server_files(&authority, &[]));
    let server = serve(&files, None).await;
    let (port, tls) = (server.port, client(&authority, None));
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (tls, stop, count) = (tls.clone(), Arc::clone(&stop), Arc::clone(&count));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(call(&tls, port, "").await.unwrap().0, 200);
                    count.fetch_add(1, Ordering::Relaxed);
                    sleep(Duration::from_millis(5)).await;
                }
            })
        })
        .collect();
    let first = shown(&tls, port).await;
    files.replace(&authority.issue(&["dns:localhost"], LATER));
    let rotated = wait_for_other(&tls, port, &first).await;
    // None of these is served: a key of another certificate, no key, an expired certificate, a
    // chain that does not fit.
    let (good, other) = (authority.issue(&["dns:localhost"], LATER), Authority::new());
    let chain = authority.below().issue(&["dns:localhost"], LATER).certificate + &other.below().pem;
    for (certificate, key) in [
        (good.certificate.clone(), authority.issue(&["dns:localhost"], LATER).key),
        (good.certificate.clone(), "nothing".to_owned()),
        (authority.issue(&["dns:localhost"], 2021).certificate, good.key.clone()),
        (chain, good.key.clone()),
        (String::new(), good.key.clone()),
    ] {
        files.replace(&Issued { certificate, key });
        sleep(Duration::from_millis(2500)).await;
        assert_eq!(shown(&tls, port).await, rotated);
    }
    files.replace(&good);
    wait_for_other(&tls, port, &rotated).await;
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    assert!(count.load(Ordering::Relaxed) > 100, "{count:?}");
}

/// Waits until the server shows another certificate; at most five seconds, as promised.
async fn wait_for_other(
    tls: &ClientTls,
    port: u16,
    old: &CertificateDer<'static>,
) -> CertificateDer<'static> {
    let changed = async {
        loop {
            let now = shown(tls, port).await;
            if now != *old {
                return now;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(5), changed).await.unwrap()
}

#[tokio::test]
async fn stalled_handshakes_hold_nobody_up_and_end() {
    let authority = Authority::new();
    let limits = ConnectionLimits {
        header_timeout: Duration::from_secs(2),
        max_connections: 400,
        max_connections_per_address: 300,
        ..ConnectionLimits::default()
    };
    let tls = ServerTls::open(server_files(&authority, &[]).paths()).unwrap();
    let (http, budget) = (ListenerProtocol::Http, ByteBudget::default());
    let server = Server::secured(routes(), http, limits, budget, None, Some(tls)).await;
    let mut stalled = Vec::new();
    for number in 0..500 {
        let mut raw = server.connect().await;
        if number % 2 == 0 {
            // The beginning of a ClientHello.
            raw.send([0x16, 3, 1, 1, 0, 1]).await;
        }
        stalled.push(raw);
    }
    let tls = client(&authority, None);
    for _ in 0..10 {
        let began = Instant::now();
        assert_eq!(call(&tls, server.port, "").await.unwrap().0, 200);
        assert!(began.elapsed() < Duration::from_secs(1));
    }
    for mut raw in stalled {
        let (_, took) = raw.read_to_end().await;
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
}

#[test]
fn files_that_are_not_fit_are_refused_by_their_kind() {
    let authority = Authority::new();
    let issued = authority.issue(&["dns:localhost"], LATER);
    let below = authority.below();
    let leaf = below.issue(&["dns:localhost"], LATER);
    let chain = Issued { certificate: leaf.certificate + &below.pem, key: leaf.key };
    assert!(ServerTls::open(Files::new(Some(&chain), &[]).paths()).is_ok());
    for (name, text, mode, kind) in [
        ("key.pem", issued.key.as_str(), 0o640, TlsFileKind::Key),
        ("key.pem", issued.key.as_str(), 0o604, TlsFileKind::Key),
        ("key.pem", "canary", 0o600, TlsFileKind::Key),
        ("cert.pem", issued.certificate.as_str(), 0o622, TlsFileKind::Certificate),
        ("cert.pem", "canary", 0o644, TlsFileKind::Certificate),
        ("ca.pem", "canary", 0o644, TlsFileKind::Authorities),
        ("ca.pem", authority.pem.as_str(), 0o666, TlsFileKind::Authorities),
    ] {
        let files = Files::new(Some(&issued), &[&authority]);
        assert!(ServerTls::open(files.paths()).is_ok());
        files.write(name, text, mode);
        let error = ServerTls::open(files.paths()).map(drop).unwrap_err();
        assert!(error.kind == kind && !error.to_string().contains("canary"), "{name}: {error}");
    }
}
