//! Hazard: a bundle is sent to an unauthenticated server, or cannot be sent to
//! a service behind TLS.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use order_service::reconcilers::bundle::{
    ReconcileTargets, ShardSet, http::build_reconcile_routes,
};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::world::{World, ended};

/// A self-signed certificate for `localhost` and its key, as files.
fn certificate(folder: &Path) {
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// TLS proxy in front of the server; returns its port.
async fn before(behind: std::net::SocketAddr, folder: &Path) -> u16 {
    let certificates = CertificateDer::pem_file_iter(folder.join("cert.pem")).unwrap();
    let certificates = certificates.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .unwrap();
    let (acceptor, listener) =
        (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that does not trust the certificate disconnects.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut behind = TcpStream::connect(behind).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut behind).await;
        }
    });
    port
}

#[test]
fn a_service_behind_tls_is_brought_there_if_its_certificate_is_trusted() {
    store::testing::run_test(async {
        let world = World::new().await;
        let folder = tempfile::tempdir().unwrap();
        certificate(folder.path());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let behind = listener.local_addr().unwrap();
        let targets = ReconcileTargets::new(world.control.clone(), ShardSet::from_open_shards(&[]));
        tokio::spawn(async move {
            axum::serve(listener, build_reconcile_routes(targets).into_router()).await.unwrap()
        });
        let url = format!("https://localhost:{}", before(behind, folder.path()).await);

        let distrusting = world.run(&["schedules", "--url", &url]).await;
        assert_eq!(distrusting.code, Some(1));
        assert!(distrusting.complaint.contains("certificate"), "{}", distrusting.complaint);
        let run = async || {
            let mut command = world.command(&["schedules", "--url", &url]);
            ended({
                command.env("SSL_CERT_FILE", folder.path().join("cert.pem"));
                command
            })
            .await
        };
        assert_eq!(run().await.planned(), [1, 0, 0]);
        assert_eq!(run().await.planned(), [0, 0, 0]);
    });
}
