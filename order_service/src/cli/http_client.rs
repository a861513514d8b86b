//! HTTP client of commands that call a running service.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde::Deserialize;
use serving::tls::{find_tls_error, open_command_tls};
use settings::ResolvedSettings;
use tokio::time::timeout;

use super::CommandFailure;
use super::command_token::command_token;
use super::service_connection::{HttpServiceClient, build_http_client, is_tls_address};

/// Timeout for connecting to the service.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout from the request to the whole answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum answer size in bytes: a page of the largest events.
const MAX_ANSWER_BYTES: usize = 256 << 20;
/// Everything except the unreserved characters of RFC 3986.
const URL_RESERVED_CHARS: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Flag `--url`, shared by commands that call the HTTP port.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct ServiceUrlArgs {
    #[arg(
        long,
        value_name = "URL",
        help = "The running service; with TLS https://… [default: localhost and --http-port]"
    )]
    url: Option<String>,
}

/// Client of one running service.
pub(super) struct ServiceHttpClient {
    client: HttpServiceClient,
    origin: String,
    answer_timeout: Duration,
    token: Option<HeaderValue>,
}

/// JSON body of an error answer.
#[derive(Deserialize)]
struct ServiceErrorBody {
    error: ServiceErrorDetail,
}

#[derive(Deserialize)]
struct ServiceErrorDetail {
    code: String,
    message: String,
}

impl ServiceHttpClient {
    /// Client for `--url`, or for localhost and `--http-port`.
    pub(super) fn from_args(
        args: &ServiceUrlArgs,
        resolved: &ResolvedSettings,
    ) -> Result<Self, CommandFailure> {
        let client = match &args.url {
            Some(url) => Self::from_url(url, resolved)?,
            None => {
                let port = resolved.get_required::<u16>("http-port")?;
                Self::from_url(&format!("localhost:{port}"), resolved)?
            }
        };
        Ok(client.with_token(command_token(resolved)?))
    }

    /// Client for a given `--url`.
    pub(super) fn from_url(url: &str, resolved: &ResolvedSettings) -> Result<Self, CommandFailure> {
        let uses_tls = is_tls_address(url, resolved);
        let origin = parse_origin(url, uses_tls)
            .map_err(|reason| CommandFailure::Usage(format!("--url: {reason}")))?;
        let tls = if uses_tls { Some(open_command_tls(resolved, &[])?) } else { None };
        let client = build_http_client(tls.as_ref(), CONNECT_TIMEOUT)
            .map_err(|error| CommandFailure::Failed(error.to_string()))?;
        Ok(Self::new(client, origin, ANSWER_TIMEOUT))
    }

    fn new(client: HttpServiceClient, origin: String, answer_timeout: Duration) -> Self {
        Self { client, origin, answer_timeout, token: None }
    }

    /// Sets the `Authorization` header.
    pub(super) fn with_token(self, token: Option<HeaderValue>) -> Self {
        Self { token, ..self }
    }

    /// GET; returns the body. `path` is a list of unescaped segments.
    pub(super) async fn get(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<String, CommandFailure> {
        self.send(Method::GET, path, query, None).await
    }

    /// Sends a request and returns the body; `json` is the request body, if any.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        json: Option<String>,
    ) -> Result<String, CommandFailure> {
        let target = request_target(path, query);
        let uri: Uri = format!("{}{target}", self.origin)
            .parse()
            .map_err(|error| self.answer_failure(error))?;
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, token);
        }
        if json.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = Full::new(Bytes::from(json.unwrap_or_default()));
        // The error may contain the token and is therefore dropped.
        let request =
            request.body(body).map_err(|_| self.answer_failure("the request cannot be written"))?;
        let (status, body) = match timeout(self.answer_timeout, self.send_request(request)).await {
            Ok(answer) => answer?,
            Err(_) => {
                return Err(
                    self.answer_failure(format!("no answer within {:?}", self.answer_timeout))
                );
            }
        };
        if status.is_success() {
            return String::from_utf8(body.into())
                .map_err(|_| self.answer_failure("the answer is not text"));
        }
        Err(CommandFailure::Failed(format!(
            "{} answered {}",
            self.origin,
            describe_refusal(status, &body)
        )))
    }

    async fn send_request(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), CommandFailure> {
        let answer = self.client.request(request).await.map_err(|error| {
            if let Some(error) = find_tls_error(&error) {
                return self.answer_failure(format!("TLS: {error}"));
            }
            if error.is_connect() {
                return CommandFailure::Failed(format!(
                    "no service answers at {} (is it running?)",
                    self.origin
                ));
            }
            // With its causes: the outer error alone says little.
            self.answer_failure(format!("{:#}", anyhow::Error::new(error)))
        })?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
        Ok((status, body.map_err(|error| self.answer_failure(error))?.to_bytes()))
    }

    /// Error for an answer that cannot be used.
    pub(super) fn answer_failure(&self, reason: impl std::fmt::Display) -> CommandFailure {
        CommandFailure::Failed(format!("{}: {reason}", self.origin))
    }
}

/// Scheme, authority and path prefix of a URL. Errors omit the URL, which may hold a password.
fn parse_origin(url: &str, uses_tls: bool) -> Result<String, &'static str> {
    const ALLOWED: &str = "must be http://HOST:PORT or https://HOST:PORT";
    let scheme = if uses_tls { "https" } else { "http" };
    let text = if url.contains("://") { url.to_owned() } else { format!("{scheme}://{url}") };
    let uri: Uri = text.parse().map_err(|_| ALLOWED)?;
    let authority =
        uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or(ALLOWED)?;
    if uri.scheme_str() != Some(scheme) || uri.query().is_some() || authority.host().is_empty() {
        return Err(ALLOWED);
    }
    Ok(format!("{scheme}://{authority}{}", uri.path().trim_end_matches('/')))
}

fn request_target(path: &[&str], query: &[(&str, &str)]) -> String {
    let mut target = String::new();
    for segment in path {
        target.push_str(&format!("/{}", encode_url_part(segment)));
    }
    for (n, (name, value)) in query.iter().enumerate() {
        let before = if n == 0 { '?' } else { '&' };
        let (name, value) = (encode_url_part(name), encode_url_part(value));
        target.push_str(&format!("{before}{name}={value}"));
    }
    target
}

fn encode_url_part(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, URL_RESERVED_CHARS)
}

/// Code and message of the platform's error body; for any other body, the status and its beginning.
fn describe_refusal(status: StatusCode, body: &[u8]) -> String {
    match serde_json::from_slice(body) {
        Ok(ServiceErrorBody { error: ServiceErrorDetail { code, message } }) => {
            format!("{code}: {message}")
        }
        Err(_) => {
            let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
            format!("{status} {}", text.trim()).trim_end().to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (url, taken) in [
            ("http://localhost:8095", "http://localhost:8095"),
            ("localhost:8095", "http://localhost:8095"),
            ("http://[::1]:8095/", "http://[::1]:8095"),
            ("http://gate.example/ledger/", "http://gate.example/ledger"),
        ] {
            assert_eq!(parse_origin(url, false).as_deref(), Ok(taken));
        }
        for url in ["localhost:8095", "https://localhost:8095/"] {
            assert_eq!(parse_origin(url, true).as_deref(), Ok("https://localhost:8095"));
        }
        for bad in [
            "",
            "http://",
            "https://localhost",
            "ftp://localhost",
            "http://me:canary@localhost:1",
            "http://a b",
            "http://h/?x=1",
        ] {
            assert!(
                parse_origin(bad, false).is_err_and(|reason| !reason.contains("canary")),
                "{bad}"
            );
        }
    }

    #[test]
    fn everything_is_encoded_where_it_must_be() {
        let query =
            [("storage_id", "-7"), ("label", "a b&c=é/+"), ("at", "2024-01-01T00:00:00+01:00")];
        assert_eq!(
            request_target(&["v1", "balances", "a/../b?"], &query),
            "/v1/balances/a%2F..%2Fb%3F?storage_id=-7&label=a%20b%26c%3D%C3%A9%2F%2B&at=2024-01-01T00%3A00%3A00%2B01%3A00"
        );
    }

    #[tokio::test]
    async fn whoever_does_not_answer_is_given_up() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        // No answer at all, or one that never ends.
        for beginning in ["", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let origin = format!("http://{}", listener.local_addr().unwrap());
            let quiet = tokio::spawn(async move {
                let (mut connection, _) = listener.accept().await.unwrap();
                connection.read_u8().await.unwrap();
                connection.write_all(beginning.as_bytes()).await.unwrap();
                std::future::pending::<()>().await;
            });
            let client = build_http_client(None, CONNECT_TIMEOUT).unwrap();
            let asked = ServiceHttpClient::new(client, origin.clone(), Duration::from_millis(100))
                .get(&["v1", "types"], &[])
                .await;
            let Err(CommandFailure::Failed(reason)) = asked else { panic!("it answered") };
            assert_eq!(reason, format!("{origin}: no answer within 100ms"));
            quiet.abort();
        }
    }

    #[test]
    fn refusals_in_one_line() {
        let body = br#"{"error": {"code": "VALIDATION_ERROR", "message": "at: wrong", "args": {"at": "wrong"}}, "results": []}"#;
        assert_eq!(describe_refusal(StatusCode::BAD_REQUEST, body), "VALIDATION_ERROR: at: wrong");
        assert_eq!(
            describe_refusal(StatusCode::BAD_GATEWAY, b"<html>\xff"),
            "502 Bad Gateway <html>\u{fffd}"
        );
        assert_eq!(describe_refusal(StatusCode::NOT_FOUND, b""), "404 Not Found");
    }
}
