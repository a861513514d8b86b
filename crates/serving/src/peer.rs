//! A connection to another program of the platform: made when first used, made again when lost.

use std::error::Error as _;
use std::time::Duration;

use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::grpc::{CONNECTION_WINDOW, STREAM_WINDOW};

/// A channel to `host:port` (or an `http://` address); nothing is connected yet.
pub fn channel(address: &str) -> Result<Channel, String> {
    let uri = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    let endpoint = Endpoint::from_shared(uri).map_err(|error| format!("`{address}`: {error}"))?;
    let has_port = endpoint.uri().port_u16().is_some();
    if !has_port {
        return Err(format!("`{address}` is not host:port"));
    }
    Ok(endpoint
        .connect_timeout(Duration::from_secs(2))
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .connect_lazy())
}

/// Whether the call failed because of the connection (it could not be made, or broke) and not by the peer's answer.
pub fn is_connection_failure(status: &Status) -> bool {
    // A status that the peer sent has no source.
    status.source().is_some()
}
