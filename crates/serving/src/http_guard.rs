//! Guard against requests from web pages: a browser on this machine can reach loopback ports, and
//! any page can make it send requests.
//!
//! `Host` must be an allowed name, against DNS rebinding. Cross-site requests are rejected by
//! `Origin` or, if it is absent, by `Sec-Fetch-Site`.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use axum::response::{IntoResponse as _, Response};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};

use crate::body;
use crate::error::{ApiError, ErrorCode};

/// Maximum size of an HTTP/1 request head in bytes; larger heads get status 431.
pub const MAX_HEAD_BYTES: usize = 32 << 10;
/// Maximum size of a request target in bytes; longer targets get status 414.
pub const MAX_TARGET_BYTES: usize = 16 << 10;
/// Paths that accept forms besides JSON; cross-site forms are detected by their `Origin`.
const FORM_PATHS: [&str; 1] = ["/api/v1/event_story"];
/// Path prefixes that support `If-Match` and `If-None-Match` on writes. Other writes with a
/// precondition are rejected instead of ignoring it.
const CONDITIONAL_PATHS: [&str; 1] = ["/v1/states/"];
/// Pages that may be opened through links from other sites; reading them has no effect.
const PAGE_PATHS: [&str; 3] = ["/", "/console", "/docs"];
/// Returns nothing confidential.
const LIVENESS_PATH: &str = "/healthz";

/// Host names (without port) that this server accepts.
#[derive(Debug, Clone)]
pub struct AllowedHosts(Arc<HashSet<String>>);

impl AllowedHosts {
    /// The loopback names and those configured by the operator.
    pub fn with_loopback(listed: impl IntoIterator<Item = String>) -> Self {
        let loopback = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned);
        Self(Arc::new(
            loopback
                .into_iter()
                .chain(listed.into_iter().map(|host| host.to_lowercase()))
                .collect(),
        ))
    }

    /// `local` is the address that the client connected to. It is always allowed: an IP address in
    /// `Host` rules out DNS rebinding.
    fn is_allowed(&self, authority: &str, local: IpAddr) -> bool {
        let (host, port) = match authority.rfind(':') {
            // A colon within the brackets of an IPv6 address does not precede a port.
            Some(colon) if !authority[colon..].contains(']') => {
                (&authority[..colon], Some(&authority[colon + 1..]))
            }
            _ => (authority, None),
        };
        port.is_none_or(is_port_number) && (self.is_listed(host) || is_address(host, local))
    }

    fn is_listed(&self, host: &str) -> bool {
        self.0.contains(host) || self.0.contains(&host.to_lowercase())
    }

    /// The request's host. The target (HTTP/2, or the absolute form in HTTP/1) and the `Host`
    /// header may name it; both must be allowed.
    pub(crate) fn check_host<'r>(
        &self,
        uri: &'r Uri,
        headers: &'r HeaderMap,
        local: IpAddr,
    ) -> Result<&'r str, &'static str> {
        let (header, is_twice) = first_header(headers, &header::HOST);
        let target = uri.authority().map(Authority::as_str);
        let host = target.or(header).ok_or("the request names no Host")?;
        if is_twice || !target.into_iter().chain(header).all(|host| self.is_allowed(host, local)) {
            return Err("this Host is not one this server answers to (see --allowed-hosts)");
        }
        Ok(host)
    }
}

/// The first value of a header, and whether there is a second.
fn first_header<'r>(headers: &'r HeaderMap, name: &HeaderName) -> (Option<&'r str>, bool) {
    let mut values = headers.get_all(name).iter();
    (values.next().map(|value| value.to_str().unwrap_or("?")), values.next().is_some())
}

/// Accepts or rejects a request by its size, host and origin; applied to all requests, including
/// unknown routes.
pub(crate) fn check_origin(
    hosts: &AllowedHosts,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    local: IpAddr,
) -> Result<(), Box<Response>> {
    check_head_size(uri, headers)?;
    let host = hosts.check_host(uri, headers, local);
    host.and_then(|host| check_page_origin(host, method, uri, headers)).map_err(|reason| {
        Box::new(ApiError::new(ErrorCode::PermissionDenied, reason).into_response())
    })
}

/// Accepts or rejects a request by its other headers, before its body is read.
pub(crate) fn check_content(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    has_body: bool,
) -> Result<(), Box<Response>> {
    if let Some(name) = unknown_precondition(method, uri, headers) {
        let reason = "is not known here: the write would be done without it";
        return Err(Box::new(ApiError::invalid_field(name, reason).into_response()));
    }
    // Content types that pages can send cross-origin without a CORS preflight do not include JSON.
    let takes_forms = FORM_PATHS.contains(&uri.path()) && body::is_form(headers);
    if *method == Method::POST && has_body && !body::is_json(headers) && !takes_forms {
        return Err(Box::new(body::not_json_error().into_response()));
    }
    if has_body { body::check_body_headers(headers) } else { Ok(()) }
}

fn is_port_number(port: &str) -> bool {
    (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether `host` is this address, perhaps in brackets.
fn is_address(host: &str, address: IpAddr) -> bool {
    host.trim_matches(['[', ']']).parse() == Ok(address.to_canonical())
}

/// A precondition header that the route would ignore on a write.
fn unknown_precondition(method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<&'static str> {
    let takes_etags = CONDITIONAL_PATHS.iter().any(|begin| uri.path().starts_with(begin));
    let preconditions = [
        ("If-Match", header::IF_MATCH, takes_etags),
        ("If-None-Match", header::IF_NONE_MATCH, takes_etags),
        ("If-Unmodified-Since", header::IF_UNMODIFIED_SINCE, false),
    ];
    let unknown = preconditions
        .into_iter()
        .find(|(_, header, is_known)| !is_known && headers.contains_key(header));
    unknown.filter(|_| !method.is_safe()).map(|(name, ..)| name)
}

fn check_head_size(uri: &Uri, headers: &HeaderMap) -> Result<(), Box<Response>> {
    if uri.path_and_query().is_some_and(|target| target.as_str().len() > MAX_TARGET_BYTES) {
        return Err(too_long_response("target", MAX_TARGET_BYTES, StatusCode::URI_TOO_LONG));
    }
    let mut head_bytes = 0;
    for (name, value) in headers {
        head_bytes += name.as_str().len() + value.len() + 4;
    }
    if head_bytes > MAX_HEAD_BYTES {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err(too_long_response("head", MAX_HEAD_BYTES, status));
    }
    Ok(())
}

fn too_long_response(what: &str, max_bytes: usize, status: StatusCode) -> Box<Response> {
    let message =
        format!("the request's {what} is too long; at most {max_bytes} bytes are allowed");
    Box::new(ApiError::new(ErrorCode::TooLarge, message).into_response_with(status))
}

fn check_page_origin(
    host: &str,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<(), &'static str> {
    let (origin, second_origin) = first_header(headers, &header::ORIGIN);
    if origin.is_some_and(|origin| second_origin || !is_same_origin(origin, host)) {
        return Err("requests from web pages of another origin are refused");
    }
    let site = HeaderName::from_static("sec-fetch-site");
    let is_foreign =
        headers.get_all(site).iter().any(|site| site != "same-origin" && site != "none");
    if is_foreign && uri.path() != LIVENESS_PATH && !opens_page(method, uri, headers) {
        return Err("requests from web pages of another site are refused");
    }
    Ok(())
}

/// Whether the request opens a page by a link.
fn opens_page(method: &Method, uri: &Uri, headers: &HeaderMap) -> bool {
    *method == Method::GET
        && PAGE_PATHS.contains(&uri.path())
        && headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate")
}

fn is_same_origin(origin: &str, host: &str) -> bool {
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

/// Response headers for browsers: no content sniffing, no use by other origins, no caching.
pub(crate) fn add_security_headers(headers: &mut HeaderMap) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let policy = HeaderName::from_static("cross-origin-resource-policy");
    headers.entry(policy).or_insert(HeaderValue::from_static("same-origin"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request_status(method: &str, target: &str, headers: &[(&str, &str)], has_body: bool) -> u16 {
        let hosts = AllowedHosts::with_loopback(["shop.example".to_owned()]);
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        let (method, uri) = (method.parse().unwrap(), target.parse().unwrap());
        let local = "192.0.2.7".parse().unwrap();
        check_origin(&hosts, &method, &uri, &map, local)
            .and_then(|()| check_content(&method, &uri, &map, has_body))
            .err()
            .map_or(200, |refusal| refusal.status().as_u16())
    }

    fn host_status(host: &str) -> u16 {
        request_status("GET", "/healthz", &[("host", host)], false)
    }

    #[test]
    fn only_known_hosts_are_answered() {
        let ours = [
            "localhost",
            "localhost:8095",
            "127.0.0.1:1",
            "[::1]:8095",
            "[::1]",
            "LOCALHOST",
            "shop.example:80",
            "192.0.2.7:8095",
        ];
        for host in ours {
            assert_eq!(host_status(host), 200, "{host}");
        }
        for host in [
            "evil.example",
            "192.0.2.8",
            "localhost.evil.example",
            "127.0.0.1.evil.example:80",
            "localhost:x.evil.example",
            "localhost:",
            "localhost:80:80",
            "::1",
            "",
            "8095",
        ] {
            assert_eq!(host_status(host), 403, "{host}");
        }
        assert_eq!(request_status("GET", "/", &[], false), 403);
        assert_eq!(
            request_status("GET", "/", &[("host", "localhost"), ("host", "localhost")], false),
            403
        );
    }

    #[test]
    fn a_target_that_names_a_host_is_held_to_it_too() {
        assert_eq!(
            request_status("GET", "http://evil.example/healthz", &[("host", "localhost")], false),
            403
        );
        assert_eq!(
            request_status("GET", "http://localhost/healthz", &[("host", "evil.example")], false),
            403
        );
        assert_eq!(
            request_status("GET", "http://x@localhost/healthz", &[("host", "localhost")], false),
            403
        );
        assert_eq!(request_status("GET", "http://localhost:1/healthz", &[], false), 200);
    }

    #[test]
    fn only_our_own_pages_may_send_an_origin() {
        let of = |origin| {
            request_status(
                "GET",
                "/healthz",
                &[("host", "localhost:8095"), ("origin", origin)],
                false,
            )
        };
        assert_eq!(of("http://localhost:8095"), 200);
        for origin in [
            "http://evil.example",
            "http://localhost:3000",
            "null",
            "file://",
            "http://localhost:8095.evil.example",
        ] {
            assert_eq!(of(origin), 403, "{origin}");
        }
    }

    #[test]
    fn what_a_page_of_another_site_starts_is_refused_and_links_are_followed() {
        let of = |method, path, site, mode| {
            request_status(
                method,
                path,
                &[("host", "localhost"), ("sec-fetch-site", site), ("sec-fetch-mode", mode)],
                false,
            )
        };
        for site in ["cross-site", "same-site", "unheard-of"] {
            assert_eq!(of("GET", "/v1/events", site, "no-cors"), 403, "{site}");
            assert_eq!(of("GET", "/v1/events", site, "navigate"), 403, "{site}");
            assert_eq!(of("GET", "/docs", site, "no-cors"), 403, "{site}");
            assert_eq!(of("POST", "/docs", site, "navigate"), 403, "{site}");
            assert_eq!(of("GET", "/docs", site, "navigate"), 200, "{site}");
            assert_eq!(of("GET", "/healthz", site, "no-cors"), 200, "{site}");
        }
        for site in ["same-origin", "none"] {
            assert_eq!(of("GET", "/v1/events", site, "cors"), 200, "{site}");
        }
    }

    #[test]
    fn a_post_with_a_body_says_that_it_is_json_and_an_empty_one_need_not() {
        let post = |kind, has_body| {
            request_status(
                "POST",
                "/api/v1/tasks/1/retry",
                &[("host", "localhost"), ("content-type", kind)],
                has_body,
            )
        };
        assert_eq!(post("application/x-www-form-urlencoded", false), 200);
        let form = ("content-type", "application/x-www-form-urlencoded");
        assert_eq!(
            request_status("POST", "/api/v1/event_story", &[("host", "localhost"), form], true),
            200
        );
        assert_eq!(request_status("POST", "/retry", &[("host", "localhost")], false), 200);
        assert_eq!(post("text/plain", true), 400);
        assert_eq!(post("application/json; charset=utf-8", true), 200);
        assert_eq!(
            request_status("PUT", "/template", &[("host", "localhost")], true),
            200,
            "no page sends one unasked"
        );
    }

    #[test]
    fn a_body_is_taken_as_it_is_in_utf_8_and_up_to_the_largest() {
        fn put_status(name: &str, value: &str) -> u16 {
            let json = ("content-type", "application/json");
            let headers = [("host", "localhost"), (name, value), json];
            let headers = if name == "content-type" { &headers[..2] } else { &headers[..] };
            request_status("PUT", "/template", headers, true)
        }
        for charset in ["utf-8", "UTF-8", "\"utf-8\"", "utf8", "us-ascii"] {
            assert_eq!(
                put_status("content-type", &format!("application/json; charset={charset}")),
                200,
                "{charset}"
            );
        }
        for charset in ["iso-8859-1", "utf-16", "\"utf-8; x\"", ""] {
            assert_eq!(
                put_status("content-type", &format!("application/json;CHARSET={charset}")),
                415,
                "{charset}"
            );
        }
        for encoding in ["gzip", "br", "identity, gzip"] {
            assert_eq!(put_status("content-encoding", encoding), 415, "{encoding}");
        }
        assert_eq!(put_status("content-encoding", "Identity"), 200);
        assert_eq!(put_status("content-length", "8388608"), 200);
        assert_eq!(put_status("content-length", "8388609"), 413);
    }

    #[test]
    fn a_precondition_that_is_not_known_is_not_passed_over() {
        let of = |method, path, name| {
            request_status(method, path, &[("host", "localhost"), (name, "*")], false)
        };
        for name in ["if-match", "if-none-match", "if-unmodified-since"] {
            for method in ["POST", "PUT", "DELETE", "PATCH"] {
                assert_eq!(of(method, "/v1/locks/7", name), 400, "{method} {name}");
            }
            assert_eq!(of("GET", "/v1/locks/7", name), 200, "{name}: looking does no harm");
        }
        assert_eq!(of("PUT", "/v1/states/s?storage_id=1", "if-none-match"), 200);
        assert_eq!(of("PUT", "/v1/states/s?storage_id=1", "if-unmodified-since"), 400);
    }

    #[test]
    fn long_targets_and_heads_have_their_statuses() {
        let long = format!("/{}", "x".repeat(MAX_TARGET_BYTES));
        assert_eq!(request_status("GET", &long, &[("host", "localhost")], false), 414);
        let value = "x".repeat(MAX_HEAD_BYTES);
        assert_eq!(request_status("GET", "/", &[("host", "localhost"), ("x", &value)], false), 431);
    }
}
