//! Guard of gRPC ports against web pages: a cross-origin `application/grpc` request requires a CORS
//! preflight, and foreign host names are rejected (DNS rebinding).

use std::net::IpAddr;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header};
use tonic::Status;

use crate::error::{ApiError, ErrorCode};
use crate::http_guard::AllowedHosts;

/// Accepts or rejects a call by its headers; applied to all calls, including unknown services.
pub(crate) fn check_call(
    hosts: &AllowedHosts,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    local: IpAddr,
) -> Result<(), Box<Response>> {
    if *method != Method::POST || !is_grpc_content(headers) {
        // The client is not a gRPC client and does not read gRPC statuses.
        let error =
            ApiError::invalid_field("Content-Type", "must be application/grpc, sent by POST");
        return Err(Box::new(error.into_response_with(StatusCode::UNSUPPORTED_MEDIA_TYPE)));
    }
    hosts.check_host(uri, headers, local).map_err(denied_response)?;
    let is_page_header =
        |name: &HeaderName| *name == header::ORIGIN || name.as_str().starts_with("sec-fetch-");
    if headers.keys().any(is_page_header) {
        return Err(denied_response("calls from web pages are refused"));
    }
    Ok(())
}

fn denied_response(reason: &str) -> Box<Response> {
    Box::new(refusal_response(ApiError::new(ErrorCode::PermissionDenied, reason)))
}

/// `application/grpc` with an optional suffix (`+proto`) or parameter; not
/// `application/grpc-web`, which browsers use.
fn is_grpc_content(headers: &HeaderMap) -> bool {
    let kind =
        headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let rest = kind.strip_prefix("application/grpc");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
}

/// The response that rejects a call.
pub(crate) fn refusal_response(error: ApiError) -> Response {
    Status::from(error).into_http::<Body>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call_status(headers: &[(&'static str, &str)], target: &str) -> (u16, Option<String>) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let hosts = AllowedHosts::with_loopback([]);
        match check_call(
            &hosts,
            &Method::POST,
            &target.parse().unwrap(),
            &map,
            crate::listen::LOOPBACK_ADDRESSES[0],
        ) {
            Ok(()) => (200, None),
            Err(refusal) => {
                let status = refusal
                    .headers()
                    .get("grpc-status")
                    .map(|status| status.to_str().unwrap().into());
                (refusal.status().as_u16(), status)
            }
        }
    }

    const CALL_URI: &str = "http://localhost:8094/order_service.OrderService/GetOrder";

    #[test]
    fn calls_are_taken_from_grpc_clients() {
        for kind in ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"]
        {
            assert_eq!(call_status(&[("content-type", kind)], CALL_URI), (200, None), "{kind}");
        }
        for kind in ["text/plain", "application/json", "application/grpc-web", "application/grpcx"]
        {
            assert_eq!(call_status(&[("content-type", kind)], CALL_URI).0, 415, "{kind}");
        }
        assert_eq!(call_status(&[], CALL_URI).0, 415);
    }

    #[test]
    fn web_pages_and_foreign_names_are_denied() {
        let denied = (200, Some("7".to_owned()));
        let kind = ("content-type", "application/grpc");
        assert_eq!(call_status(&[kind, ("origin", "http://localhost:8094")], CALL_URI), denied);
        assert_eq!(call_status(&[kind, ("sec-fetch-site", "cross-site")], CALL_URI), denied);
        assert_eq!(call_status(&[kind, ("sec-fetch-mode", "no-cors")], CALL_URI), denied);
        assert_eq!(call_status(&[kind], "http://evil.example:8094/x.Y/Z"), denied);
        assert_eq!(call_status(&[kind, ("host", "localhost:x.evil.example")], CALL_URI), denied);
    }
}
