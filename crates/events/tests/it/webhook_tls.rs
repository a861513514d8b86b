//! Hazard: an https webhook trusts any server, or only the system's certificate authorities.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::HeaderMap;
use axum::response::Redirect;
use axum::routing::any;
use events::task_types::http_request::{CertificateDer, WebhookConnector, parse_authorities};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use store::testing::run_test;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::harness::{World, webhook};
use crate::staged::{PUBLIC, Staged};

/// A certificate authority of the test.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let (mut params, key) = (CertificateParams::new([]).unwrap(), KeyPair::generate().unwrap());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn trusted(&self) -> Vec<CertificateDer<'static>> {
        parse_authorities(self.pem.as_bytes()).unwrap()
    }

    /// A TLS server with a certificate for this name, valid until the end of `year`.
    fn certified(&self, name: &str, year: i32) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.not_before, params.not_after) =
            (date_time_ymd(2020, 1, 1), date_time_ymd(year, 12, 31));
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_no_client_auth();
        let config = config.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A listener that accepts TLS only.
struct Tls(TcpListener, TlsAcceptor);

impl axum::serve::Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let Ok((stream, address)) = self.0.accept().await else { continue };
            if let Ok(stream) = self.1.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// `/hook` passes the request on, `/plain` redirects to http.
async fn server(tls: TlsAcceptor) -> (Arc<Staged>, mpsc::UnboundedReceiver<(HeaderMap, String)>) {
    let (sender, received) = mpsc::unbounded_channel();
    let hook = move |headers: HeaderMap, body: String| async move {
        sender.send((headers, body)).unwrap();
        "thanks"
    };
    let plain = || async { Redirect::temporary("http://hooks.example/hook") };
    let router = Router::new().route("/hook", any(hook)).route("/plain", any(plain));
    let listener = Tls(TcpListener::bind("127.0.0.1:0").await.unwrap(), tls);
    let staged = Staged::before(listener.0.local_addr().unwrap());
    staged.name("hooks.example", &[&[PUBLIC]]);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (staged, received)
}

/// The task of a webhook that also trusts these authorities, after it has ended.
async fn sent(staged: &Arc<Staged>, trusted: Vec<CertificateDer<'static>>, path: &str) -> Value {
    let (world, stop) = (World::fresh().await, CancellationToken::new());
    let connector = WebhookConnector::new([], trusted).with_network(staged.clone());
    let worker = world.worker_with(connector, &stop).await;
    let params = json!({"url": format!("https://hooks.example{path}"), "json": {"n": 7}});
    world.config(webhook("c", params)).await;
    let event = world.event("c", json!({})).await;
    let task = world.ended(world.only(&event).await).await;
    worker.stop(std::time::Duration::from_secs(5)).await;
    task
}

#[test]
fn a_server_is_known_by_an_authority_of_ones_own() {
    run_test(async {
        let authority = Authority::new();
        let (staged, mut received) = server(authority.certified("hooks.example", 2999)).await;
        let task = sent(&staged, authority.trusted(), "/hook").await;
        assert_eq!(
            (&task["status"], &task["attempts"]),
            (&json!("succeeded"), &json!(1)),
            "{task}"
        );
        let (headers, body) = received.recv().await.unwrap();
        assert_eq!(
            (headers["host"].to_str().unwrap(), body.as_str()),
            ("hooks.example", r#"{"n":7}"#)
        );
        assert_eq!(headers["idempotency-key"], "1");
        // printf '{"n":7}' | openssl dgst -sha256 -hmac 'it is a secret'
        assert_eq!(headers["x-signature"], SIGNATURE);
        assert_eq!(staged.dialed(), [PUBLIC]);
        // A request sent over TLS is not repeated in plain text.
        let task = sent(&staged, authority.trusted(), "/plain").await;
        assert_eq!((&task["status"], &task["attempts"]), (&json!("failed"), &json!(1)));
        assert!(
            task["error"].as_str().unwrap().contains("a redirect from https to http"),
            "{task}"
        );
        assert!(received.try_recv().is_err(), "it was sent in plain text");
    });
}

const SIGNATURE: &str = "sha256=a271195a8a5bc7c1b0a2af0c75d08378c35c427e8b5641ea39dcc5b12d00bbdc";

#[test]
fn a_server_that_cannot_show_who_it_is_gets_nothing() {
    run_test(async {
        let (authority, other) = (Authority::new(), Authority::new());
        for (certified, trusted, words) in [
            (authority.certified("hooks.example", 2999), Vec::new(), "UnknownIssuer"),
            (
                authority.certified("hooks.example", 2999),
                other.trusted(),
                "invalid peer certificate",
            ),
            (
                authority.certified("others.example", 2999),
                authority.trusted(),
                "not valid for name",
            ),
            (authority.certified("hooks.example", 2021), authority.trusted(), "expired"),
        ] {
            let (staged, mut received) = server(certified).await;
            let task = sent(&staged, trusted, "/hook").await;
            assert_eq!(task["status"], "failed", "{task}");
            let error = task["error"].as_str().unwrap();
            assert!(error.contains("UNAVAILABLE") && error.contains(words), "{words}: {error}");
            assert!(received.try_recv().is_err(), "it was sent");
        }
    });
}

#[test]
fn a_file_without_authorities_is_refused() {
    let good = Authority::new().pem;
    assert_eq!(parse_authorities(good.repeat(2).as_bytes()).map(|read| read.len()), Ok(2));
    let broken = good.replace('M', "N");
    for bad in ["", "no certificate", "-----BEGIN CERTIFICATE-----\n", broken.as_str()] {
        assert!(parse_authorities(bad.as_bytes()).is_err(), "{bad}");
    }
}
