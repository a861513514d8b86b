//! Response while a service starts: a self-refreshing page for browsers, an error for programs.

use axum::extract::Request;
use axum::response::{Html, IntoResponse as _, Response};
use http::{Method, StatusCode, header};

use crate::content_negotiation::prefers_page;
use crate::error::{ApiError, ErrorCode};

/// HTML without scripts and external resources.
const STARTING_PAGE_HTML: &str = "<!doctype html>
<html lang=\"en\">
<head><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"1\"><title>Starting</title></head>
<body><h1>The service is starting</h1><p>This page asks again every second, and shows what you came for when it is there.</p></body>
</html>
";
/// Content security policy: no resources, no scripts, no framing.
const STARTING_PAGE_POLICY: &str =
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Response to any request before the service is ready.
pub fn starting_response(request: &Request) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if !reads || !prefers_page(request.headers()) {
        return ApiError::new(ErrorCode::Unavailable, "the service is starting").into_response();
    }
    let headers = [
        (header::CONTENT_SECURITY_POLICY, STARTING_PAGE_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::RETRY_AFTER, "1"),
    ];
    (StatusCode::SERVICE_UNAVAILABLE, headers, Html(STARTING_PAGE_HTML)).into_response()
}
