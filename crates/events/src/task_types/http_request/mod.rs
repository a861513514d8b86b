//! Task type `http_request`: webhooks.
//!
//! - Promise: at-least-once. A worker that dies between the response and its commit repeats the
//!   request with the same `Idempotency-Key` (the task id).
//! - 2xx is success. 408, 425, 429, 5xx and connection errors are retried, not before the server's
//!   `Retry-After`. Everything else is final.
//! - 307 and 308 are followed. 301, 302 and 303 are final errors: a client would continue with a
//!   GET without the body, which loses the message.

mod addresses;
mod connector;
mod exchange;
mod network;
mod params;

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use serde_json::{Value, json};
use sha2::Sha256;
use tasks::{TaskAttempt, TaskAttemptError, TaskHandler, TaskId};
use tokio::time::timeout;
use url::Url;

pub use addresses::address_refusal;
pub use connector::{
    WebhookConnectError, WebhookConnection, WebhookConnector, WebhookTarget, parse_authorities,
};
use exchange::{WebhookResponse, send_request};
pub use network::{SystemNetwork, WebhookNetwork};
pub use params::WebhookParams;
pub use rustls::pki_types::CertificateDer;

/// Maximum number of redirects followed.
const MAX_REDIRECTS: usize = 3;
/// Characters of a response kept in the task's outcome.
const MAX_KEPT_CHARS: usize = 2000;

/// Handler of task type `http_request`.
#[derive(Clone)]
pub struct HttpRequest {
    /// Opens connections to allowed addresses.
    pub connector: WebhookConnector,
    /// HMAC-SHA256 key for `X-Signature`; `None`: unsigned.
    pub secret: Option<Vec<u8>>,
}

impl TaskHandler for HttpRequest {
    const TASK_TYPE: &'static str = "http_request";
    const URL_PARAMS: &'static [&'static str] = &["url"];
    type Params = WebhookParams;

    async fn run(
        &self,
        attempt: &TaskAttempt,
        params: WebhookParams,
    ) -> Result<Value, TaskAttemptError> {
        let request_timeout = params.timeout;
        let answered = timeout(request_timeout, self.send(attempt.task_id, params)).await;
        answered.unwrap_or_else(|_| {
            Err(TaskAttemptError::Temporary(format!(
                "TIMEOUT: no answer within {request_timeout:?}"
            )))
        })
    }
}

impl HttpRequest {
    async fn send(
        &self,
        task_id: TaskId,
        params: WebhookParams,
    ) -> Result<Value, TaskAttemptError> {
        let WebhookParams { url: mut uri, method, headers: own, body, content_type, .. } = params;
        let first = WebhookTarget::from_uri(&uri).map_err(TaskAttemptError::Permanent)?;
        for _ in 0..=MAX_REDIRECTS {
            let target = WebhookTarget::from_uri(&uri)
                .map_err(|reason| TaskAttemptError::Permanent(format!("{uri} {reason}")))?;
            if first.secure && !target.secure {
                let reason =
                    format!("PERMISSION_DENIED: a redirect from https to {uri} is not followed");
                return Err(TaskAttemptError::Permanent(reason));
            }
            // Custom headers may hold credentials and are not sent to another server.
            let mut headers = if target == first { own.clone() } else { HeaderMap::new() };
            self.sign(&mut headers, task_id, &body)?;
            if let Some(content_type) = content_type.clone().filter(|_| !body.is_empty()) {
                headers.entry(header::CONTENT_TYPE).or_insert(content_type);
            }
            let connection = self.connector.connect(&target).await.map_err(connect_task_error)?;
            let answer =
                send_request(connection, &target, &uri, method.clone(), headers, body.clone())
                    .await?;
            let Some(location) = answer.location() else { return response_outcome(&answer) };
            let next = resolve_redirect(&uri, &location).map_err(TaskAttemptError::Permanent)?;
            if !matches!(
                answer.status,
                StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
            ) {
                return Err(moved_error(answer.status, &next));
            }
            uri = next;
        }
        Err(TaskAttemptError::Permanent(format!("more than {MAX_REDIRECTS} redirects")))
    }

    fn sign(
        &self,
        headers: &mut HeaderMap,
        task_id: TaskId,
        body: &[u8],
    ) -> Result<(), TaskAttemptError> {
        headers
            .insert(HeaderName::from_static("idempotency-key"), HeaderValue::from(task_id.get()));
        let Some(secret) = &self.secret else { return Ok(()) };
        let signature =
            body_signature(secret, body).and_then(|text| HeaderValue::from_str(&text).ok());
        let Some(signature) = signature else {
            let reason = "LOGIC_ERROR: the body could not be signed".to_owned();
            return Err(TaskAttemptError::Permanent(reason));
        };
        headers.insert(HeaderName::from_static("x-signature"), signature);
        Ok(())
    }
}

/// `sha256=` and the HMAC in hexadecimal.
fn body_signature(secret: &[u8], body: &[u8]) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    mac.update(body);
    Some(format!("sha256={}", hex::encode(mac.finalize().into_bytes())))
}

fn connect_task_error(error: WebhookConnectError) -> TaskAttemptError {
    match error {
        WebhookConnectError::Refused(reason) => {
            TaskAttemptError::Permanent(format!("PERMISSION_DENIED: {reason}"))
        }
        WebhookConnectError::Failed(reason) => {
            TaskAttemptError::Temporary(format!("UNAVAILABLE: {reason}"))
        }
    }
}

/// Resolves a redirect target per RFC 3986.
fn resolve_redirect(from: &Uri, location: &str) -> Result<Uri, String> {
    join_http_url(from, location)
        .ok_or_else(|| format!("a redirect to {location:?}, which is no URL of http or https"))
}

fn join_http_url(from: &Uri, location: &str) -> Option<Uri> {
    let next = Url::parse(&from.to_string()).ok()?.join(location).ok()?;
    if !["http", "https"].contains(&next.scheme()) {
        return None;
    }
    next.as_str().parse().ok()
}

/// A moved webhook was not delivered.
fn moved_error(status: StatusCode, next: &Uri) -> TaskAttemptError {
    TaskAttemptError::Permanent(format!(
        "the server answered {status}: it names the address {next}, to which a request would be repeated without its method and \
         body; nothing was sent there (give that address; 307 and 308 are followed)"
    ))
}

fn response_outcome(answer: &WebhookResponse) -> Result<Value, TaskAttemptError> {
    let status = answer.status;
    let text = String::from_utf8_lossy(&answer.body).replace('\0', "\u{fffd}");
    let text: String = text.chars().take(MAX_KEPT_CHARS).collect();
    if status.is_success() {
        return Ok(json!({"status": status.as_u16(), "body": text}));
    }
    let beginning: String = text.chars().take(200).collect();
    let reason = format!("the server answered {status} {beginning}").trim_end().to_owned();
    let temporary = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
    Err(match answer.retry_after().filter(|after| !after.is_zero()) {
        _ if !temporary => TaskAttemptError::Permanent(reason),
        None => TaskAttemptError::Temporary(reason),
        Some(after) => TaskAttemptError::Postponed(after, reason),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_where_they_say() {
        let from: Uri = "http://a.example:81/x/y?z".parse().unwrap();
        for (location, target) in [
            ("https://b.example/", "https://b.example/"),
            ("//b.example/q", "http://b.example/q"),
            ("/q", "http://a.example:81/q"),
            ("q", "http://a.example:81/x/q"),
            (
                "/login?next=https://a.example/x",
                "http://a.example:81/login?next=https://a.example/x",
            ),
            ("?x=1", "http://a.example:81/x/y?x=1"),
            ("../up", "http://a.example:81/up"),
            ("./../../../up/./b/", "http://a.example:81/up/b/"),
            ("", "http://a.example:81/x/y?z"),
            ("HTTPS://B.example:443/%7Ea?b c#d", "https://b.example/%7Ea?b%20c"),
            ("/\u{fc}", "http://a.example:81/%C3%BC"),
            ("//[::1]:8/a", "http://[::1]:8/a"),
        ] {
            assert_eq!(
                resolve_redirect(&from, location).unwrap().to_string(),
                target,
                "{location}"
            );
        }
        for location in
            ["file:///etc/passwd", "ftp://a.example/", "http://", "http://a b/", "mailto:a@b"]
        {
            assert!(
                resolve_redirect(&from, location).unwrap_err().contains("which is no URL"),
                "{location}"
            );
        }
    }

    #[test]
    fn signatures_are_those_of_others() {
        // RFC 4231, test case 2.
        let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(body_signature(b"Jefe", b"what do ya want for nothing?").unwrap(), expected);
    }
}
