//! How much and for how long one client may use a server.

use std::time::Duration;

/// Streams that one HTTP/2 connection may have open, unless a server says otherwise.
const MAX_STREAMS_PER_CONNECTION: u32 = 200;
/// Bytes of one request's head, over HTTP/1: what is longer is answered with 431.
pub const MAX_HEAD_BYTES: usize = 32 << 10;
/// Bytes of a request's target: what is longer is answered with 414.
pub const MAX_TARGET_BYTES: usize = 16 << 10;
/// Bytes of one gRPC message, unless a server says otherwise.
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// Connections of one listener, where there are files enough.
const MAX_CONNECTIONS: usize = 2_000;
/// However few files there are, a listener takes as many connections.
const MIN_CONNECTIONS: usize = 16;

/// The limits of one listener.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// From a connection's first moment, or from the first byte of its next request, to the end of the head; an HTTP/2
    /// preface must be there as soon.
    pub header_timeout: Duration,
    /// A connection without a request for so long is closed.
    pub idle_timeout: Duration,
    /// A body, or one message of a stream, must have arrived after so long.
    pub body_timeout: Duration,
    /// A connection of whose answers nothing was taken for so long is cut.
    pub write_timeout: Duration,
    /// An older connection is asked to go: what it has begun is finished, the next request comes on another one.
    pub max_age: Duration,
    /// Connections at a time.
    pub max_connections: usize,
    /// Connections at a time from one address (IPv6: one /64).
    pub max_connections_per_address: usize,
    /// Streams that one HTTP/2 connection may have open; a client's next ones wait at its side.
    pub max_streams: u32,
    /// Bytes of one gRPC message.
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
    /// The limits of one of `listeners` listeners of a process that may open `files` files and keeps some of them back for
    /// everything else, its databases above all.
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

    /// With so many streams on a connection.
    pub fn with_max_streams(mut self, streams: u32) -> Self {
        self.max_streams = streams;
        self
    }

    /// With messages of at most so many bytes.
    pub fn with_max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }
}

/// One address alone never takes all.
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
