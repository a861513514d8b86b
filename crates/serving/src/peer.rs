//! A connection to another program of the platform: made when first used, made again when lost.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tower::Service;

use crate::grpc::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES};

/// Another program: the channel to it, and what is known of the connection in use.
#[derive(Clone)]
pub struct GrpcPeer {
    /// Calls go through this.
    pub channel: Channel,
    /// Connections made so far.
    connection_count: Arc<AtomicU64>,
}

impl GrpcPeer {
    /// The peer at `host:port` (or an `http://` address); nothing is connected yet.
    pub fn at_address(address: &str) -> Result<Self, String> {
        let endpoint = Endpoint::from(parse_peer_address(address)?);
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let connections = Arc::new(AtomicU64::new(0));
        let channel = endpoint
            .connect_timeout(Duration::from_secs(2))
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            // Not while idle: servers of some gRPC libraries end connections that ping them without a call.
            .keep_alive_while_idle(false)
            // A refusal's message comes in a header: a long one must not end the connection.
            .http2_max_header_list_size(256 << 10)
            .connect_with_connector_lazy(CountingConnector {
                connector,
                connection_count: connections.clone(),
            });
        Ok(Self { channel, connection_count: connections })
    }

    /// A call that the peer may lack.
    pub fn optional_call(&self) -> OptionalCall {
        OptionalCall {
            connection_count: self.connection_count.clone(),
            lacking_connection: Arc::new(AtomicU64::new(u64::MAX)),
        }
    }
}

/// Whether the peer has a call, found out from `UNIMPLEMENTED` and remembered for that connection: behind the next one
/// may be a newer peer. Clones share what is known.
#[derive(Debug, Clone)]
pub struct OptionalCall {
    connection_count: Arc<AtomicU64>,
    /// The number of the connection whose peer lacks it.
    lacking_connection: Arc<AtomicU64>,
}

impl OptionalCall {
    /// Whether it is worth trying.
    pub fn is_possible(&self) -> bool {
        self.lacking_connection.load(Ordering::Relaxed)
            != self.connection_count.load(Ordering::Relaxed)
    }

    /// The peer answered that it lacks the call; true if that is news.
    pub fn mark_lacking(&self) -> bool {
        let connection = self.connection_count.load(Ordering::Relaxed);
        self.lacking_connection.swap(connection, Ordering::Relaxed) != connection
    }
}

/// The address of a peer as a URI, or what is wrong with it.
pub fn parse_peer_address(address: &str) -> Result<Uri, String> {
    // Before anything is said of it: what does not parse may hold a password as well.
    if address.contains('@') {
        return Err("must not hold a user or a password: nobody would ask for them".to_owned());
    }
    let text =
        if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let uri: Uri = text.parse().map_err(|error| format!("`{address}`: {error}"))?;
    let is_place = uri.scheme_str() == Some("http") && uri.port_u16().is_some();
    if is_place && uri.host().is_some_and(|host| !host.is_empty()) {
        Ok(uri)
    } else {
        Err(format!("`{address}` is not host:port"))
    }
}

#[derive(Clone)]
struct CountingConnector {
    connector: HttpConnector,
    connection_count: Arc<AtomicU64>,
}

impl Service<Uri> for CountingConnector {
    type Response = <HttpConnector as Service<Uri>>::Response;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.connector.call(uri);
        let connections = self.connection_count.clone();
        Box::pin(async move {
            let connection = connecting.await?;
            connections.fetch_add(1, Ordering::Relaxed);
            Ok(connection)
        })
    }
}

/// Whether the call failed because of the connection (it could not be made, or broke) and not by the peer's answer.
pub fn is_connection_failure(status: &Status) -> bool {
    // A status that the peer sent has no source.
    status.source().is_some()
}
