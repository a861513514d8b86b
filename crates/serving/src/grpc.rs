//! What every gRPC server of the platform offers and allows: reflection, health, limits, deadlines.

use std::time::Duration;

use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::server::HealthReporter;
use tonic_reflection::server::Builder as Reflection;

/// Flow-control windows. With the standard 64 KiB for a connection, a hundred calls in flight on it stall. A stream
/// keeps its 64 KiB: a client that streams small messages faster than they are worked on is held back by it, before
/// the server's limit on small frames (which grows with the connection's window) ends the connection.
pub(crate) const STREAM_WINDOW: u32 = 64 << 10;
pub(crate) const CONNECTION_WINDOW: u32 = 32 << 20;

/// A server with the platform's limits on what a stranger can send.
pub fn server() -> Server {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(10_000)
        .http2_max_header_list_size(16 << 10)
        .http2_max_pending_accept_reset_streams(Some(200))
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
}

/// Adds reflection (v1 and v1alpha) and health to `routes`; the reporter says what is serving.
pub fn with_reflection_and_health(
    routes: Routes,
) -> Result<(Routes, HealthReporter), tonic_reflection::server::Error> {
    let reflection = || {
        Reflection::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let (reporter, health) = tonic_health::server::health_reporter();
    let routes = routes
        .add_service(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);
    Ok((routes, reporter))
}

/// The time the client gives the call: its `grpc-timeout`, if it sent a well-formed one.
pub fn timeout(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<Duration> {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", text.parse().unwrap());
        timeout(&metadata)
    }

    #[test]
    fn timeouts_are_read_in_every_unit() {
        let units = [
            ("2H", 7_200_000),
            ("3M", 180_000),
            ("4S", 4000),
            ("1500m", 1500),
            ("7000u", 7),
            ("9000000n", 9),
        ];
        for (text, millis) in units {
            assert_eq!(parsed(text), Some(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn malformed_timeouts_are_ignored() {
        for text in ["", "S", "4", "4s", "-4S", "123456789S", "4.5S", "S4"] {
            assert_eq!(parsed(text), None, "{text:?}");
        }
    }
}
