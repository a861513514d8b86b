//! `http_request`: a webhook.
//!
//! At least once: a worker that dies between the answer and the note of it asks again, with the same `Idempotency-Key`, the
//! task's id. 2xx is success; 408, 425, 429, 5xx and what happens to connections are tried again, and not before the time that
//! the server names (`Retry-After`); anything else is final. 307 and 308 are followed; after 301, 302 and 303 a client would go on with a GET without the body,
//! and what was to be said would not be: they are final, too.

mod addresses;
mod connector;
mod exchange;
mod network;
mod params;

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use serde_json::{Value, json};
use sha2::Sha256;
use tasks::{Attempt, Handler, TaskError};
use tokio::time::timeout;
use url::Url;

pub use addresses::refused;
pub use connector::{Connection, Connector, NoConnection, Target, authorities};
use exchange::{Answer, exchange};
pub use network::{Internet, Network};
pub use params::RequestParams;
pub use rustls::pki_types::CertificateDer;

/// Redirects that are followed.
const MOST_REDIRECTS: usize = 3;
/// Characters of an answer that are kept.
const LONGEST_KEPT: usize = 2000;

/// Sends requests.
pub struct HttpRequest {
    /// Makes the connections.
    pub connector: Connector,
    /// What bodies are signed with.
    pub secret: Option<Vec<u8>>,
}

impl Handler for HttpRequest {
    const TASK_TYPE: &'static str = "http_request";
    const URLS: &'static [&'static str] = &["url"];
    type Params = RequestParams;

    async fn run(&self, attempt: &Attempt, params: RequestParams) -> Result<Value, TaskError> {
        let patience = params.patience;
        let answered = timeout(patience, self.send(attempt.task_id, params)).await;
        answered
            .unwrap_or_else(|_| Err(TaskError::Temporary(format!("TIMEOUT: no answer within {patience:?}"))))
    }
}

impl HttpRequest {
    async fn send(&self, task_id: i64, params: RequestParams) -> Result<Value, TaskError> {
        let RequestParams { url: mut uri, method, headers: own, body, content_type, .. } = params;
        let first = Target::of(&uri).map_err(TaskError::Permanent)?;
        for _ in 0..=MOST_REDIRECTS {
            let target =
                Target::of(&uri).map_err(|reason| TaskError::Permanent(format!("{uri} {reason}")))?;
            if first.secure && !target.secure {
                let reason = format!("PERMISSION_DENIED: a redirect from https to {uri} is not followed");
                return Err(TaskError::Permanent(reason));
            }
            // Another server does not get what was meant for the first one.
            let mut headers = if target == first { own.clone() } else { HeaderMap::new() };
            self.sign(&mut headers, task_id, &body)?;
            if let Some(content_type) = content_type.clone().filter(|_| !body.is_empty()) {
                headers.entry(header::CONTENT_TYPE).or_insert(content_type);
            }
            let connection = self.connector.connect(&target).await.map_err(no_connection)?;
            let answer = exchange(connection, &target, &uri, method.clone(), headers, body.clone()).await?;
            let Some(location) = answer.location() else { return judge(&answer) };
            let next = follow(&uri, &location).map_err(TaskError::Permanent)?;
            if !matches!(answer.status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT) {
                return Err(moved(answer.status, &next));
            }
            uri = next;
        }
        Err(TaskError::Permanent(format!("more than {MOST_REDIRECTS} redirects")))
    }

    fn sign(&self, headers: &mut HeaderMap, task_id: i64, body: &[u8]) -> Result<(), TaskError> {
        headers.insert(HeaderName::from_static("idempotency-key"), HeaderValue::from(task_id));
        let Some(secret) = &self.secret else { return Ok(()) };
        let signature = signature(secret, body).and_then(|text| HeaderValue::from_str(&text).ok());
        let logic = || TaskError::Permanent("LOGIC_ERROR: the body could not be signed".to_owned());
        headers.insert(HeaderName::from_static("x-signature"), signature.ok_or_else(logic)?);
        Ok(())
    }
}

/// `sha256=` and the HMAC in hexadecimal digits.
fn signature(secret: &[u8], body: &[u8]) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    mac.update(body);
    let digest: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!("sha256={digest}"))
}

fn no_connection(error: NoConnection) -> TaskError {
    match error {
        NoConnection::Refused(reason) => TaskError::Permanent(format!("PERMISSION_DENIED: {reason}")),
        NoConnection::Failed(reason) => TaskError::Temporary(format!("UNAVAILABLE: {reason}")),
    }
}

/// Where a redirect leads, as RFC 3986 says.
fn follow(from: &Uri, location: &str) -> Result<Uri, String> {
    let wrong = || format!("a redirect to {location:?}, which is no URL of http or https");
    let base = Url::parse(&from.to_string()).map_err(|_| wrong())?;
    let next = base.join(location).ok().filter(|next| ["http", "https"].contains(&next.scheme()));
    next.and_then(|next| next.as_str().parse().ok()).ok_or_else(wrong)
}

/// A webhook that has moved has not been delivered.
fn moved(status: StatusCode, next: &Uri) -> TaskError {
    TaskError::Permanent(format!(
        "the server answered {status}: it names the address {next}, to which a request would be repeated without its method and \
         body; nothing was sent there (give that address; 307 and 308 are followed)"
    ))
}

fn judge(answer: &Answer) -> Result<Value, TaskError> {
    let status = answer.status;
    let text = String::from_utf8_lossy(&answer.body).replace('\0', "\u{fffd}");
    let text: String = text.chars().take(LONGEST_KEPT).collect();
    if status.is_success() {
        return Ok(json!({"status": status.as_u16(), "body": text}));
    }
    let beginning: String = text.chars().take(200).collect();
    let reason = format!("the server answered {status} {beginning}").trim_end().to_owned();
    let temporary = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
    Err(match answer.retry_after().filter(|after| !after.is_zero()) {
        _ if !temporary => TaskError::Permanent(reason),
        None => TaskError::Temporary(reason),
        Some(after) => TaskError::PutOff(after, reason),
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
            ("/login?next=https://a.example/x", "http://a.example:81/login?next=https://a.example/x"),
            ("?x=1", "http://a.example:81/x/y?x=1"),
            ("../up", "http://a.example:81/up"),
            ("./../../../up/./b/", "http://a.example:81/up/b/"),
            ("", "http://a.example:81/x/y?z"),
            ("HTTPS://B.example:443/%7Ea?b c#d", "https://b.example/%7Ea?b%20c"),
            ("/\u{fc}", "http://a.example:81/%C3%BC"),
            ("//[::1]:8/a", "http://[::1]:8/a"),
        ] {
            assert_eq!(follow(&from, location).unwrap().to_string(), target, "{location}");
        }
        for location in ["file:///etc/passwd", "ftp://a.example/", "http://", "http://a b/", "mailto:a@b"] {
            assert!(follow(&from, location).unwrap_err().contains("which is no URL"), "{location}");
        }
    }

    #[test]
    fn signatures_are_those_of_others() {
        // RFC 4231, test case 2.
        let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signature(b"Jefe", b"what do ya want for nothing?").unwrap(), expected);
    }
}
