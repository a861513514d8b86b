//! gRPC client connection to another service of the platform: connects lazily and reconnects.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use access::TokenFile;
use futures::future::BoxFuture;
use http::{HeaderValue, Uri, uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tower::Service;

use crate::grpc::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES};
use crate::tls::{ClientTls, TransportStream};

/// Channel whose calls carry the peer's token.
pub type PeerChannel = InterceptedService<Channel, PeerToken>;

/// The token that calls to a peer carry.
#[derive(Debug, Clone, Default)]
pub enum PeerToken {
    /// No token.
    #[default]
    None,
    /// This `Authorization` header; its value is marked as sensitive.
    Header(HeaderValue),
    /// The token of a file, which is read again when it changes.
    File(TokenFile),
}

impl PeerToken {
    /// The `Authorization` header.
    pub fn header(&self) -> Option<HeaderValue> {
        match self {
            Self::None => None,
            Self::Header(header) => Some(header.clone()),
            Self::File(file) => Some(file.header()),
        }
    }
}

impl Interceptor for PeerToken {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let value = self.header().and_then(|header| {
            let mut value = AsciiMetadataValue::try_from(header.as_bytes()).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        if let Some(value) = value {
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

/// A peer service: its channel and the state of its connection.
#[derive(Clone)]
pub struct GrpcPeer {
    /// Channel for calls to the peer.
    pub channel: PeerChannel,
    /// Number of connections established so far.
    connection_count: Arc<AtomicU64>,
}

impl GrpcPeer {
    /// The peer at `host:port` (or an `http://` address); does not connect yet.
    /// Calls carry no token.
    pub fn at_address(address: &str) -> Result<Self, String> {
        Self::with_token(address, PeerToken::None)
    }

    /// Like [`Self::at_address`]; all calls carry the token.
    pub fn with_token(address: &str, token: PeerToken) -> Result<Self, String> {
        Self::with_tls(address, token, None)
    }

    /// Like [`Self::with_token`], with TLS if it is given: the address is `host:port` then, or
    /// begins with `https://`.
    pub fn with_tls(
        address: &str,
        token: PeerToken,
        tls: Option<ClientTls>,
    ) -> Result<Self, String> {
        let uri = parse_peer_address(address, tls.is_some())?;
        let mut endpoint = Endpoint::from(with_scheme(uri.clone(), uri::Scheme::HTTP)?);
        if tls.is_some() {
            endpoint = endpoint.origin(with_scheme(uri, uri::Scheme::HTTPS)?);
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let connections = Arc::new(AtomicU64::new(0));
        let channel = endpoint
            .connect_timeout(Duration::from_secs(2))
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            // Some gRPC servers close connections that send pings without a call.
            .keep_alive_while_idle(false)
            // An error message is sent in a header: a long one must not end the connection.
            .http2_max_header_list_size(256 << 10)
            .connect_with_connector_lazy(CountingConnector {
                connector,
                connection_count: connections.clone(),
                tls,
            });
        let channel = InterceptedService::new(channel, token);
        Ok(Self { channel, connection_count: connections })
    }

    /// State of a call that the peer may not implement.
    pub fn optional_call(&self) -> OptionalCall {
        OptionalCall {
            connection_count: self.connection_count.clone(),
            lacking_connection: Arc::new(AtomicU64::new(u64::MAX)),
        }
    }
}

/// Whether the peer implements a call, learned from `UNIMPLEMENTED` and cached per connection:
/// after a reconnect the peer may be newer. Clones share the state.
#[derive(Debug, Clone)]
pub struct OptionalCall {
    connection_count: Arc<AtomicU64>,
    /// Number of the connection whose peer does not implement the call.
    lacking_connection: Arc<AtomicU64>,
}

impl OptionalCall {
    /// Whether the call should be tried on the current connection.
    pub fn is_possible(&self) -> bool {
        self.lacking_connection.load(Ordering::Relaxed)
            != self.connection_count.load(Ordering::Relaxed)
    }

    /// Records that the peer does not implement the call; true if this is new for the connection.
    pub fn mark_lacking(&self) -> bool {
        let connection = self.connection_count.load(Ordering::Relaxed);
        self.lacking_connection.swap(connection, Ordering::Relaxed) != connection
    }
}

/// Parses a peer's address, or returns the error message. An address that says how it is called must
/// agree with whether TLS is used.
pub fn parse_peer_address(address: &str, uses_tls: bool) -> Result<Uri, String> {
    // Checked first, because parse errors show the address, which may contain a password.
    if address.contains('@') {
        return Err("must not hold a user or a password: nobody would ask for them".to_owned());
    }
    let text =
        if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let uri: Uri = text.parse().map_err(|error| format!("`{address}`: {error}"))?;
    let is_place = matches!(uri.scheme_str(), Some("http" | "https")) && uri.port_u16().is_some();
    if !is_place || uri.host().is_none_or(str::is_empty) {
        return Err(format!("`{address}` is not host:port"));
    }
    match uri.scheme_str().filter(|_| address.contains("://")) {
        Some("https") if !uses_tls => {
            Err(format!("`{address}` needs TLS, which --peer-tls-ca switches on"))
        }
        Some("http") if uses_tls => {
            Err(format!("`{address}` is called without TLS, but --peer-tls-ca switches it on"))
        }
        _ => Ok(uri),
    }
}

fn with_scheme(uri: Uri, scheme: uri::Scheme) -> Result<Uri, String> {
    let mut parts = uri.into_parts();
    parts.scheme = Some(scheme);
    Uri::from_parts(parts).map_err(|error| error.to_string())
}

#[derive(Clone)]
struct CountingConnector {
    connector: HttpConnector,
    connection_count: Arc<AtomicU64>,
    tls: Option<ClientTls>,
}

impl Service<Uri> for CountingConnector {
    type Response = TokioIo<TransportStream>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.connector.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.connector.call(uri.clone());
        let (connections, tls) = (self.connection_count.clone(), self.tls.clone());
        Box::pin(async move {
            let connection = connecting.await?.into_inner();
            let connection = match tls {
                Some(tls) => tls.connect(uri.host().unwrap_or_default(), connection).await?,
                None => TransportStream::Plain(connection),
            };
            connections.fetch_add(1, Ordering::Relaxed);
            Ok(TokioIo::new(connection))
        })
    }
}

/// Whether the call failed because of the connection (not established, or lost) and not by a
/// status of the peer.
pub fn is_connection_failure(status: &Status) -> bool {
    // A status sent by the peer has no source.
    status.source().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_agrees_with_how_it_is_called_whatever_its_case() {
        for (address, uses_tls, is_right) in [
            ("dm:8093", false, true),
            ("dm:8093", true, true),
            ("http://dm:8093", false, true),
            ("HTTP://dm:8093", true, false),
            ("https://dm:8093", true, true),
            ("https://dm:8093", false, false),
            ("HTTPS://dm:8093", false, false),
            ("u@dm:8093", false, false),
        ] {
            assert_eq!(parse_peer_address(address, uses_tls).is_ok(), is_right, "{address}");
        }
    }
}
