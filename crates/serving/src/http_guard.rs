//! Protection from web pages: a browser on this machine can reach loopback ports, and a page from anywhere can make
//! it try. So the Host must be one we answer to (which defeats DNS rebinding), and a foreign Origin is refused.

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};

use crate::error::{ApiError, Code};

/// The host names (without port) this server answers to.
#[derive(Debug, Clone)]
pub struct Hosts(Arc<HashSet<String>>);

impl Hosts {
    /// The loopback names, and those listed by the operator.
    pub fn loopback_and(listed: impl IntoIterator<Item = String>) -> Self {
        let loopback = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned);
        Self(Arc::new(
            loopback.into_iter().chain(listed.into_iter().map(|host| host.to_lowercase())).collect(),
        ))
    }

    fn knows(&self, authority: &str) -> bool {
        let host = match authority.rfind(':') {
            // The colons inside an IPv6 address's brackets are not before a port.
            Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
            _ => authority,
        };
        self.0.contains(&host.to_lowercase())
    }
}

/// Middleware for every route there is, unknown ones included.
pub async fn guard(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
    match check(&hosts, authority, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(reason) => ApiError::new(Code::PermissionDenied, reason).into_response(),
    }
}

fn check(hosts: &Hosts, authority: Option<String>, headers: &HeaderMap) -> Result<(), &'static str> {
    let single = |name| {
        let mut values = headers.get_all(name).iter();
        (values.next().map(|value| value.to_str().unwrap_or("?").to_owned()), values.next().is_some())
    };
    let (host, second_host) = single(header::HOST);
    let host = authority.or(host).ok_or("the request names no Host")?;
    if second_host || !hosts.knows(&host) {
        return Err("this Host is not one this server answers to (see --allowed-hosts)");
    }
    let (origin, second_origin) = single(header::ORIGIN);
    match origin {
        None => Ok(()),
        Some(origin) if !second_origin && is_same_site(&origin, &host) => Ok(()),
        Some(_) => Err("requests from web pages of another origin are refused"),
    }
}

fn is_same_site(origin: &str, host: &str) -> bool {
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(host: Option<&str>, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        host.map(|host| headers.insert(header::HOST, host.parse().unwrap()));
        origin.map(|origin| headers.insert(header::ORIGIN, origin.parse().unwrap()));
        check(&Hosts::loopback_and(["shop.example".to_owned()]), None, &headers).is_ok()
    }

    #[test]
    fn only_known_hosts_are_answered() {
        for host in [
            "localhost",
            "localhost:8095",
            "127.0.0.1:1",
            "[::1]:8095",
            "[::1]",
            "LOCALHOST",
            "shop.example:80",
        ] {
            assert!(verdict(Some(host), None), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "::1", "", "8095"]
        {
            assert!(!verdict(Some(host), None), "{host}");
        }
        assert!(!verdict(None, None));
    }

    #[test]
    fn only_our_own_pages_may_send_an_origin() {
        assert!(verdict(Some("localhost:8095"), Some("http://localhost:8095")));
        for origin in [
            "http://evil.example",
            "http://localhost:3000",
            "null",
            "file://",
            "http://localhost:8095.evil.example",
        ] {
            assert!(!verdict(Some("localhost:8095"), Some(origin)), "{origin}");
        }
    }
}
