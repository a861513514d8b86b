//! Webhook connections with SSRF protection. The name is resolved once, all its addresses are
//! checked, and the connection goes to a checked address: a later change of the DNS answer (DNS
//! rebinding) has no effect.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::addresses::address_refusal;
use super::network::{SystemNetwork, WebhookNetwork};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum addresses tried per name.
const MAX_ADDRESSES_TRIED: usize = 4;

/// Reason for a failed connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookConnectError {
    /// Permanent: the target is forbidden or can never work.
    Refused(String),
    /// Transient: a retry may succeed.
    Failed(String),
}

/// An open connection to a webhook server.
pub enum WebhookConnection {
    /// Plain TCP for `http:`.
    Plain(TcpStream),
    /// TLS stream for `https:`.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connector for webhooks; clones share state.
#[derive(Clone)]
pub struct WebhookConnector {
    allowed_targets: Arc<HashSet<String>>,
    tls: Option<TlsConnector>,
    network: Arc<dyn WebhookNetwork>,
}

/// Target of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookTarget {
    /// `true`: `https:`, `false`: `http:`.
    pub secure: bool,
    /// Lower-case host of the URL, IPv6 addresses without brackets.
    pub host: String,
    /// TCP port, 443 or 80 by default.
    pub port: u16,
}

impl WebhookTarget {
    /// Target of an absolute URL; rejects other schemes and credentials.
    pub fn from_uri(uri: &Uri) -> Result<Self, String> {
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err("must begin with http:// or https://".to_owned()),
        };
        let authority = uri.authority().ok_or("names no host")?;
        if authority.as_str().contains('@') {
            return Err("must not hold credentials".to_owned());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_lowercase();
        if host.is_empty() {
            return Err("names no host".to_owned());
        }
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Ok(Self { secure, host, port })
    }
}

impl WebhookConnector {
    /// Connector to public addresses and to `allowed` targets (each `host:port`). Server
    /// certificates are verified with the system's certificate authorities and those in `trusted`.
    pub fn new(
        allowed: impl IntoIterator<Item = String>,
        trusted: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Self {
        let allowed_targets =
            allowed.into_iter().map(|target| target.to_lowercase().replace(['[', ']'], ""));
        Self {
            allowed_targets: Arc::new(allowed_targets.collect()),
            tls: new_tls_connector(trusted),
            network: Arc::new(SystemNetwork),
        }
    }

    /// Replaces the network, for tests.
    pub fn with_network(self, network: Arc<dyn WebhookNetwork>) -> Self {
        Self { network, ..self }
    }

    /// Resolves, checks, and connects to the first address that works.
    pub async fn connect(
        &self,
        target: &WebhookTarget,
    ) -> Result<WebhookConnection, WebhookConnectError> {
        let addresses = self.resolve_allowed(target).await?;
        let mut last = WebhookConnectError::Failed(format!("{} has no address", target.host));
        for address in addresses.into_iter().take(MAX_ADDRESSES_TRIED) {
            match timeout(CONNECT_TIMEOUT, self.connect_to_address(target, address)).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => last = error,
                Err(_) => {
                    last = WebhookConnectError::Failed(format!(
                        "no connection to {address} within {CONNECT_TIMEOUT:?}"
                    ))
                }
            }
        }
        Err(last)
    }

    /// Addresses of the host; an error if any of them is forbidden.
    async fn resolve_allowed(
        &self,
        target: &WebhookTarget,
    ) -> Result<Vec<SocketAddr>, WebhookConnectError> {
        let WebhookTarget { host, port, .. } = target;
        let found = timeout(CONNECT_TIMEOUT, self.network.resolve(host, *port)).await;
        let found = found.map_err(|_| {
            WebhookConnectError::Failed(format!("the name {host} could not be resolved in time"))
        })?;
        let addresses = found.map_err(|error| {
            WebhookConnectError::Failed(format!("the name {host} could not be resolved: {error}"))
        })?;
        if self.allowed_targets.contains(&format!("{host}:{port}")) {
            return Ok(addresses);
        }
        for address in &addresses {
            if let Some(what) = address_refusal(address.ip()) {
                let ip = address.ip();
                let is = if ip.to_string() == *host {
                    String::new()
                } else {
                    format!("{host} is {ip}, ")
                };
                return Err(WebhookConnectError::Refused(format!(
                    "{is}{ip} is {what}, which webhooks must not reach (--webhook-allow {host}:{port} would allow it)"
                )));
            }
        }
        Ok(addresses)
    }

    async fn connect_to_address(
        &self,
        target: &WebhookTarget,
        address: SocketAddr,
    ) -> Result<WebhookConnection, WebhookConnectError> {
        let stream =
            self.network.dial(address).await.map_err(|error| connect_error(address, &error))?;
        let _ = stream.set_nodelay(true);
        if !target.secure {
            return Ok(WebhookConnection::Plain(stream));
        }
        let Some(tls) = &self.tls else {
            return Err(WebhookConnectError::Refused(
                "this machine has no certificates to check servers by".to_owned(),
            ));
        };
        let name = ServerName::try_from(target.host.clone()).map_err(|_| {
            WebhookConnectError::Refused(format!("{} is no name for TLS", target.host))
        })?;
        let stream =
            tls.connect(name, stream).await.map_err(|error| connect_error(address, &error))?;
        Ok(WebhookConnection::Tls(Box::new(stream)))
    }
}

fn connect_error(address: SocketAddr, error: &std::io::Error) -> WebhookConnectError {
    WebhookConnectError::Failed(format!("connecting to {address}: {error}"))
}

/// TLS with the system's and the given authorities; `None` without any.
fn new_tls_connector(
    trusted: impl IntoIterator<Item = CertificateDer<'static>>,
) -> Option<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots.add_parsable_certificates(trusted);
    if roots.is_empty() {
        return None;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    Some(TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth())))
}

/// Parses a PEM file of certificate authorities; an error if it has none or an invalid one.
pub fn parse_authorities(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|error| format!("is no PEM file: {error}"))?;
    let mut roots = RootCertStore::empty();
    for certificate in &read {
        roots
            .add(certificate.clone())
            .map_err(|error| format!("has a certificate that is none: {error}"))?;
    }
    if read.is_empty() { Err("has no certificate in it".to_owned()) } else { Ok(read) }
}
