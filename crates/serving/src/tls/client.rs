//! TLS of connections to a server.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use webpki::KeyUsage;

use super::files::{TlsContents, TlsFileError, TlsFileKind, TlsPaths, parse_authorities};
use super::followed::{BuiltConfig, FollowedConfig};
use super::identity::TlsIdentity;
use super::stream::TransportStream;

/// TLS of the connections to a server; clones share it. The files are followed.
#[derive(Clone)]
pub struct ClientTls(Arc<FollowedConfig<Arc<ClientConfig>>>);

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls")
    }
}

impl ClientTls {
    /// Reads the files, and again when they change. Without authorities, servers are checked by
    /// those of this machine. `protocols` are offered to the server (ALPN).
    pub fn open(
        paths: TlsPaths,
        protocols: &'static [&'static [u8]],
    ) -> Result<Self, TlsFileError> {
        let build = move |contents: &TlsContents| build_config(contents, protocols);
        FollowedConfig::open("client", paths, Box::new(build)).map(Self)
    }

    /// The configuration of the next handshake.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0.get())
    }

    /// Begins TLS on a connection to the host `host` of a URI.
    pub(crate) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<TransportStream, std::io::Error> {
        let host = host.trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(std::io::Error::other)?;
        let stream = TlsConnector::from(self.config()).connect(name, stream).await?;
        Ok(TransportStream::Tls(Box::new(stream.into())))
    }
}

fn build_config(
    contents: &TlsContents,
    protocols: &[&[u8]],
) -> Result<BuiltConfig<Arc<ClientConfig>>, TlsFileError> {
    let provider = Arc::new(ring::default_provider());
    let roots = match &contents.authorities {
        Some(pem) => parse_authorities(pem)?,
        None => read_machine_authorities()?,
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsFileError::new(TlsFileKind::Key, error.to_string()))?
        .with_root_certificates(roots);
    let (mut config, validity) = match &contents.identity {
        Some((certificate, key)) => {
            let usage = KeyUsage::client_auth();
            let identity = TlsIdentity::parse(certificate, key, usage, &provider)?;
            let resolver = Arc::new(SingleCertAndKey::from(identity.key));
            (builder.with_client_cert_resolver(resolver), Some(identity.validity))
        }
        None => (builder.with_no_client_auth(), None),
    };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(BuiltConfig { config: Arc::new(config), validity })
}

fn read_machine_authorities() -> Result<RootCertStore, TlsFileError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let reason = "this machine has no certificates to check servers by";
        return Err(TlsFileError::new(TlsFileKind::Authorities, reason));
    }
    Ok(roots)
}
