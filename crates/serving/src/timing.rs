//! `Server-Timing` header (W3C): processing time in this process, for browser tools and benchmarks.
//! The rest of a client's latency is network and client.

use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Name of the response header.
pub const SERVER_TIMING_HEADER: HeaderName = HeaderName::from_static("server-timing");

/// Middleware that adds the header: milliseconds from the request's head to the response's head.
pub async fn add_server_timing(request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let mut response = next.run(request).await;
    let milliseconds = begun.elapsed().as_secs_f64() * 1000.0;
    if let Ok(value) = HeaderValue::from_str(&format!("total;dur={milliseconds:.3}")) {
        response.headers_mut().insert(SERVER_TIMING_HEADER, value);
    }
    response
}

/// Parses the header of a response; `None` if it is absent or malformed.
pub fn parse_server_timing(headers: &HeaderMap) -> Option<Duration> {
    let milliseconds: f64 = headers
        .get(SERVER_TIMING_HEADER)?
        .to_str()
        .ok()?
        .strip_prefix("total;dur=")?
        .parse()
        .ok()?;
    Duration::try_from_secs_f64(milliseconds / 1000.0).ok()
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn;
    use axum::routing::get;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn an_answer_says_how_long_it_took() {
        let slow = get(async || tokio::time::sleep(Duration::from_millis(20)).await);
        let routes = Router::new().route("/", slow).layer(from_fn(add_server_timing));
        let response = routes.oneshot(Request::new(Body::empty())).await.unwrap();
        let took = parse_server_timing(response.headers()).unwrap();
        assert!((Duration::from_millis(20)..Duration::from_secs(5)).contains(&took), "{took:?}");
    }
}
