//! Common parts of the platform's gRPC servers: reflection, health,
//! flow-control windows, deadlines, statuses.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Status;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic_health::server::HealthReporter;
use tonic_reflection::server::Builder as Reflection;

use crate::error::ApiError;

/// HTTP/2 flow-control windows. With the default connection window of 64 KiB, a hundred concurrent
/// calls stall. The stream window stays 64 KiB: backpressure on a client that streams small
/// messages faster than they are processed, before the server's limit on small frames (which grows
/// with the connection window) closes the connection.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 64 << 10;
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;

/// Accepted request compression: a channel that compresses does so for all services. The message
/// size limit applies after decompression. Responses are not compressed: they are small, or read
/// on the same machine.
pub const GZIP: CompressionEncoding = CompressionEncoding::Gzip;

/// Paths of client-streaming methods, whose clients may pause between messages.
pub(crate) fn client_stream_paths() -> Vec<String> {
    let sets = [
        proto::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    // A descriptor set that cannot be decoded would fail the tests.
    let files = sets
        .into_iter()
        .filter_map(|set| FileDescriptorSet::decode(set).ok())
        .flat_map(|set| set.file);
    let mut paths = Vec::new();
    for file in files {
        for service in &file.service {
            let streams = service.method.iter().filter(|method| method.client_streaming());
            paths.extend(
                streams.map(|method| {
                    format!("/{}.{}/{}", file.package(), service.name(), method.name())
                }),
            );
        }
    }
    paths
}

/// Paths of all methods in a descriptor set, for the test that each has its access.
pub fn rpc_paths(descriptor_set: &[u8]) -> Vec<String> {
    // A descriptor set that cannot be decoded would fail the tests.
    let files = FileDescriptorSet::decode(descriptor_set).map(|set| set.file).unwrap_or_default();
    let mut paths = Vec::new();
    for file in &files {
        for service in &file.service {
            let methods = service.method.iter().map(prost_types::MethodDescriptorProto::name);
            paths.extend(
                methods.map(|name| format!("/{}.{}/{name}", file.package(), service.name())),
            );
        }
    }
    paths
}

/// Trailers that end a started response with an error.
pub(crate) fn error_trailers(error: ApiError) -> HeaderMap {
    let mut headers = Status::from(error).into_http::<()>().into_parts().0.headers;
    headers.remove(http::header::CONTENT_TYPE);
    headers
}

/// Statuses in which tonic reports a client's error as its own: code, prefix of the message on
/// the wire, correct code.
const STATUS_CORRECTIONS: [(&str, &str, tonic::Code); 2] = [
    ("13", "failed%20to%20decode%20Protobuf%20message", tonic::Code::InvalidArgument),
    ("11", "Error,%20decoded%20message%20length%20too%20large", tonic::Code::ResourceExhausted),
];

/// Corrects the status in response headers or trailers.
pub(crate) fn correct_status(headers: &mut HeaderMap) {
    let Some(status) = headers.get("grpc-status").filter(|status| status.as_bytes() != b"0") else {
        return;
    };
    let message = headers.get("grpc-message").map_or(&b""[..], HeaderValue::as_bytes);
    let correction = STATUS_CORRECTIONS.iter().find(|(code, words, _)| {
        status.as_bytes() == code.as_bytes() && message.starts_with(words.as_bytes())
    });
    if let Some((.., right)) = correction {
        headers.insert("grpc-status", HeaderValue::from(*right as i32));
    }
}

/// Adds reflection (v1 and v1alpha) and health services to `routes`; the reporter
/// sets the health status.
pub fn with_reflection_and_health(
    routes: Routes,
) -> Result<(Routes, HealthReporter), tonic_reflection::server::Error> {
    let (reporter, health) = tonic_health::server::health_reporter();
    let routes = routes
        .add_service(health.accept_compressed(GZIP))
        .add_service(configure_reflection().build_v1()?.accept_compressed(GZIP))
        .add_service(configure_reflection().build_v1alpha()?.accept_compressed(GZIP));
    Ok((routes, reporter))
}

fn configure_reflection() -> Reflection<'static> {
    Reflection::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// The client's deadline: its `grpc-timeout` header, if well-formed.
pub fn parse_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
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
    use crate::scoped_rpcs::COMMON_RPC_ACCESS;

    fn parse_header(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", text.parse().unwrap());
        parse_timeout(&headers)
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
            assert_eq!(parse_header(text), Some(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn every_common_rpc_has_its_access() {
        let sets = [
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let paths: Vec<String> = sets.into_iter().flat_map(rpc_paths).collect();
        assert!(paths.len() >= 4, "{paths:?}");
        for path in paths {
            assert!(COMMON_RPC_ACCESS.iter().any(|(known, _)| *known == path), "{path}");
        }
    }

    #[test]
    fn the_calls_that_stream_to_us_are_known() {
        let paths = client_stream_paths();
        assert!(
            paths.contains(&"/order_service.OrderService/ProcessOrderStream".to_owned()),
            "{paths:?}"
        );
        assert!(
            paths.iter().filter(|path| path.contains("ServerReflection")).count() == 2,
            "{paths:?}"
        );
        assert_eq!(paths.len(), 3, "{paths:?}");
    }

    #[test]
    fn a_message_that_does_not_decode_is_the_clients_fault() {
        let decoded = proto::order_service::ProcessOrdersRequest::decode(&b"\x0a\xff"[..]);
        let status = Status::internal(decoded.unwrap_err().to_string());
        let mut headers = status.into_http::<()>().into_parts().0.headers;
        correct_status(&mut headers);
        assert_eq!(headers["grpc-status"], "3", "{headers:?}");
        let mut ours = Status::internal("the ledger").into_http::<()>().into_parts().0.headers;
        correct_status(&mut ours);
        assert_eq!(ours["grpc-status"], "13");
    }

    #[test]
    fn malformed_timeouts_are_ignored() {
        for text in ["", "S", "4", "4s", "-4S", "123456789S", "4.5S", "S4"] {
            assert_eq!(parse_header(text), None, "{text:?}");
        }
    }
}
