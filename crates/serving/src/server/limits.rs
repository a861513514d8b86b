//! Limits of a listener per client and connection.

use std::time::Duration;

/// Default maximum of concurrent streams per HTTP/2 connection.
const MAX_STREAMS_PER_CONNECTION: u32 = 200;
/// Default maximum size of a gRPC message in bytes.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// Maximum number of connections per listener, if there are enough file descriptors.
const MAX_CONNECTIONS: usize = 2_000;
/// Minimum number of connections per listener, even with few file descriptors.
const MIN_CONNECTIONS: usize = 16;

/// Limits of one listener.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// Time from the connection's start, or from the first byte of its next request, to the end of
    /// the head; also for the HTTP/2 preface.
    pub header_timeout: Duration,
    /// Time after which a connection without a request is closed.
    pub idle_timeout: Duration,
    /// Time for receiving a body, or one message of a stream.
    pub body_timeout: Duration,
    /// Time without write progress after which a connection is closed.
    pub write_timeout: Duration,
    /// Age at which a connection is shut down gracefully: requests in flight
    /// finish, and clients reconnect.
    pub max_age: Duration,
    /// Maximum number of concurrent connections.
    pub max_connections: usize,
    /// Maximum number of concurrent connections per address (IPv6: per /64).
    pub max_connections_per_address: usize,
    /// Maximum concurrent streams per HTTP/2 connection; further streams queue at the client.
    pub max_streams: u32,
    /// Maximum size of a gRPC message in bytes.
    pub max_message_bytes: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(60),
            max_age: Duration::from_secs(3600),
            max_connections: MAX_CONNECTIONS,
            max_connections_per_address: max_per_address(MAX_CONNECTIONS),
            max_streams: MAX_STREAMS_PER_CONNECTION,
            max_message_bytes: MAX_MESSAGE_BYTES,
        }
    }
}

impl ConnectionLimits {
    /// Limits of one of `listeners` listeners in a process with `files` file descriptors, of which
    /// `reserved_files` are kept for other uses, mainly databases.
    pub fn for_open_files(files: u64, reserved_files: u64, listeners: u64) -> Self {
        let left = files.saturating_sub(reserved_files) / listeners.max(1);
        let fitting = usize::try_from(left).unwrap_or(MAX_CONNECTIONS);
        let max_connections = fitting.clamp(MIN_CONNECTIONS, MAX_CONNECTIONS);
        Self {
            max_connections,
            max_connections_per_address: max_per_address(max_connections),
            ..Self::default()
        }
    }

    /// Sets the maximum number of streams per connection.
    pub fn with_max_streams(mut self, streams: u32) -> Self {
        self.max_streams = streams;
        self
    }

    /// Sets the maximum size of a gRPC message.
    pub fn with_max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }
}

/// Three quarters, so that one address cannot use all connections.
fn max_per_address(connections: usize) -> usize {
    connections - connections / 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_kept_back_and_a_listener_always_takes_some() {
        let connections = |files| ConnectionLimits::for_open_files(files, 400, 2).max_connections;
        assert_eq!(connections(65_536), MAX_CONNECTIONS);
        assert_eq!(connections(1_024), 312);
        assert_eq!(connections(256), MIN_CONNECTIONS);
        assert_eq!(
            ConnectionLimits::for_open_files(1_024, 400, 2).max_connections_per_address,
            234
        );
    }
}
