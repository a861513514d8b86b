//! TLS of a server's listeners.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{RootCertStore, ServerConfig};
use webpki::KeyUsage;

use super::files::{TlsContents, TlsFileError, TlsFileKind, TlsPaths, parse_authorities};
use super::followed::{BuiltConfig, FollowedConfig};
use super::identity::TlsIdentity;
use crate::listen::ListenerProtocol;

/// TLS of a program's listeners; clones share it. The files are followed.
#[derive(Clone)]
pub struct ServerTls(Arc<FollowedConfig<ListenerConfigs>>);

/// They differ in the protocols that they offer.
struct ListenerConfigs {
    http: Arc<ServerConfig>,
    grpc: Arc<ServerConfig>,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls")
    }
}

impl ServerTls {
    /// Reads the files, and again when they change. With authorities, clients are asked for a
    /// certificate, which they need not give; one that does not verify ends the handshake.
    pub fn open(paths: TlsPaths) -> Result<Self, TlsFileError> {
        FollowedConfig::open("server", paths, Box::new(build_configs)).map(Self)
    }

    /// The configuration of the next handshake.
    pub(crate) fn config(&self, protocol: ListenerProtocol) -> Arc<ServerConfig> {
        let configs = self.0.get();
        Arc::clone(match protocol {
            ListenerProtocol::Http => &configs.http,
            ListenerProtocol::Grpc => &configs.grpc,
        })
    }
}

fn build_configs(contents: &TlsContents) -> Result<BuiltConfig<ListenerConfigs>, TlsFileError> {
    let provider = Arc::new(ring::default_provider());
    let Some((certificate, key)) = &contents.identity else {
        return Err(TlsFileError::new(TlsFileKind::Certificate, "is missing"));
    };
    let identity = TlsIdentity::parse(certificate, key, KeyUsage::server_auth(), &provider)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsFileError::new(TlsFileKind::Key, error.to_string()))?;
    let builder = match &contents.authorities {
        Some(pem) => builder
            .with_client_cert_verifier(build_client_verifier(parse_authorities(pem)?, provider)?),
        None => builder.with_no_client_auth(),
    };
    let resolver = Arc::new(SingleCertAndKey::from(identity.key));
    let mut http = builder.with_cert_resolver(resolver);
    if contents.authorities.is_some() {
        // A resumed session would not check again whether the client's certificate has expired.
        http.session_storage = Arc::new(NoServerSessionStorage {});
        http.send_tls13_tickets = 0;
    }
    let mut grpc = http.clone();
    http.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    grpc.alpn_protocols = vec![b"h2".to_vec()];
    let config = ListenerConfigs { http: Arc::new(http), grpc: Arc::new(grpc) };
    Ok(BuiltConfig { config, validity: Some(identity.validity) })
}

fn build_client_verifier(
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsFileError> {
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated()
        .build()
        .map_err(|error| TlsFileError::new(TlsFileKind::Authorities, error.to_string()))
}
