//! Protection of gRPC ports from what is no gRPC client: a web page cannot send `application/grpc` to another site without
//! asking first, nor be asked for by a name that is not ours.

use std::net::IpAddr;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, Method, StatusCode, Uri, header};
use tonic::Status;

use crate::error::{ApiError, Code};
use crate::http_guard::Hosts;

/// Whether a call is taken: asked for every one there is, of unknown services too, before its message is read.
pub(crate) fn check(
    hosts: &Hosts,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    local: IpAddr,
) -> Result<(), Box<Response>> {
    if *method != Method::POST || !is_grpc(headers) {
        // Whoever this is knows no gRPC statuses.
        let error = ApiError::field("Content-Type", "must be application/grpc, sent by POST");
        return Err(Box::new(error.into_response_with(StatusCode::UNSUPPORTED_MEDIA_TYPE)));
    }
    let denied = |reason: &str| Box::new(refusal(ApiError::new(Code::PermissionDenied, reason)));
    hosts.check(uri, headers, local).map_err(denied)?;
    if headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site") {
        return Err(denied("calls from web pages are refused"));
    }
    Ok(())
}

/// The type itself, with a suffix (`+proto`) or a parameter; not `application/grpc-web`, which is for browsers.
fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let rest = kind.strip_prefix("application/grpc");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
}

/// A call's refusal.
pub(crate) fn refusal(error: ApiError) -> Response {
    Status::from(error).into_http::<Body>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(headers: &[(&'static str, &str)], target: &str) -> (u16, Option<String>) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let hosts = Hosts::loopback_and([]);
        match check(&hosts, &Method::POST, &target.parse().unwrap(), &map, crate::listen::LOOPBACK[0]) {
            Ok(()) => (200, None),
            Err(refusal) => {
                let status =
                    refusal.headers().get("grpc-status").map(|status| status.to_str().unwrap().into());
                (refusal.status().as_u16(), status)
            }
        }
    }

    const CALL: &str = "http://localhost:8094/order_service.OrderService/GetOrder";

    #[test]
    fn calls_are_taken_from_grpc_clients() {
        for kind in ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"] {
            assert_eq!(ask(&[("content-type", kind)], CALL), (200, None), "{kind}");
        }
        for kind in ["text/plain", "application/json", "application/grpc-web", "application/grpcx"] {
            assert_eq!(ask(&[("content-type", kind)], CALL).0, 415, "{kind}");
        }
        assert_eq!(ask(&[], CALL).0, 415);
    }

    #[test]
    fn web_pages_and_foreign_names_are_denied() {
        let denied = (200, Some("7".to_owned()));
        let kind = ("content-type", "application/grpc");
        assert_eq!(ask(&[kind, ("origin", "http://localhost:8094")], CALL), denied);
        assert_eq!(ask(&[kind, ("sec-fetch-site", "cross-site")], CALL), denied);
        assert_eq!(ask(&[kind], "http://evil.example:8094/x.Y/Z"), denied);
        assert_eq!(ask(&[kind, ("host", "localhost:x.evil.example")], CALL), denied);
    }
}
