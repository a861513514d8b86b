//! HTTP exchange of a webhook: one request and response per connection.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tasks::TaskAttemptError;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connector::{WebhookConnection, WebhookTarget};

/// Maximum bytes read of a response body.
const MAX_RESPONSE_BODY_BYTES: usize = 64 << 10;
/// Maximum size of a response head, in bytes.
const MAX_RESPONSE_HEAD_BYTES: usize = 64 << 10;

/// Response of a webhook server.
pub(super) struct WebhookResponse {
    pub(super) status: StatusCode,
    headers: HeaderMap,
    pub(super) body: Bytes,
}

impl WebhookResponse {
    /// The redirect target, if the response is a redirect.
    pub(super) fn location(&self) -> Option<String> {
        let moved = matches!(self.status.as_u16(), 301 | 302 | 303 | 307 | 308);
        let location = self.headers.get(header::LOCATION).filter(|_| moved)?;
        Some(String::from_utf8_lossy(location.as_bytes()).into_owned())
    }

    /// Delay of `Retry-After`, if present. A date is taken relative to the server's `Date`, if
    /// present, else to the local clock.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let after = self.header_text(header::RETRY_AFTER)?;
        if let Ok(seconds) = after.parse::<u64>() {
            return Some(Duration::from_secs(seconds));
        }
        let now = self.header_text(header::DATE).and_then(parse_http_date).unwrap_or_else(Utc::now);
        (parse_http_date(after)? - now).to_std().ok()
    }

    fn header_text(&self, name: HeaderName) -> Option<&str> {
        let text = self.headers.get(name)?.to_str().ok()?;
        Some(text.trim())
    }
}

fn parse_http_date(text: &str) -> Option<DateTime<Utc>> {
    Some(DateTime::parse_from_rfc2822(text).ok()?.to_utc())
}

/// Sends a request and reads the response.
pub(super) async fn send_request(
    connection: WebhookConnection,
    target: &WebhookTarget,
    uri: &Uri,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Result<WebhookResponse, TaskAttemptError> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::builder().method(method).uri(path).body(Full::new(body));
    let mut request = request
        .map_err(|error| TaskAttemptError::Permanent(format!("VALIDATION_ERROR: {error}")))?;
    *request.headers_mut() = headers;
    let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let host = authority
        .parse()
        .map_err(|_| TaskAttemptError::Permanent("VALIDATION_ERROR: no Host".to_owned()))?;
    request.headers_mut().insert(header::HOST, host);
    let agent =
        http::HeaderValue::from_static(concat!("order-platform/", env!("CARGO_PKG_VERSION")));
    request.headers_mut().entry(header::USER_AGENT).or_insert(agent);
    match connection {
        WebhookConnection::Plain(stream) => send_on_stream(stream, target, request).await,
        WebhookConnection::Tls(stream) => send_on_stream(*stream, target, request).await,
    }
}

async fn send_on_stream<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    target: &WebhookTarget,
    request: Request<Full<Bytes>>,
) -> Result<WebhookResponse, TaskAttemptError> {
    // Conventional header case: some servers reject lower case.
    let mut shaking = http1::Builder::new();
    shaking.title_case_headers(true).max_buf_size(MAX_RESPONSE_HEAD_BYTES);
    let shaking = shaking.handshake(TokioIo::new(stream));
    let (mut sender, connection) = shaking.await.map_err(|error| exchange_error(target, error))?;
    // Ends when the sender or this future is dropped.
    let driving = tokio::spawn(store::panics::contain_panic(connection));
    let _driving = tokio_util::task::AbortOnDropHandle::new(driving);
    let answer = sender.send_request(request).await;
    let (parts, body) = answer.map_err(|error| exchange_error(target, error))?.into_parts();
    let body = read_body_start(body).await.map_err(|error| exchange_error(target, error))?;
    Ok(WebhookResponse { status: parts.status, headers: parts.headers, body })
}

fn exchange_error(target: &WebhookTarget, error: hyper::Error) -> TaskAttemptError {
    let WebhookTarget { host, port, .. } = target;
    TaskAttemptError::Temporary(format!("UNAVAILABLE: {host}:{port}: {error}"))
}

/// Reads at most [`MAX_RESPONSE_BODY_BYTES`]; the rest of a longer body is not awaited.
async fn read_body_start(mut body: Incoming) -> hyper::Result<Bytes> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            read.extend_from_slice(&data[..data.len().min(MAX_RESPONSE_BODY_BYTES - read.len())]);
        }
        if read.len() == MAX_RESPONSE_BODY_BYTES {
            break;
        }
    }
    Ok(read.into())
}
