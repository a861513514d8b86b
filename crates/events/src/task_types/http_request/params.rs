//! What a webhook's params may be.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use serde::Deserialize;
use serde_json::{Map, Value};
use tasks::TaskError;

use super::Target;

/// How long a request may take, redirects included, unless it says so itself; and at most.
const PATIENCE: f64 = 30.0;
const MOST_PATIENCE: f64 = 120.0;
/// Headers that are the platform's business.
const OURS: [&str; 8] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "idempotency-key",
    "x-signature",
];

/// The request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestParams {
    pub(super) url: Url,
    #[serde(default)]
    pub(super) method: Verb,
    /// The body, as JSON.
    #[serde(default)]
    json: Option<Value>,
    /// The body, as it is.
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    pub(super) headers: Map<String, Value>,
    #[serde(default)]
    pub(super) timeout_seconds: Patience,
}

impl RequestParams {
    /// The body, and its type if that is known.
    pub(super) fn content(&self) -> Result<(Bytes, Option<&'static str>), TaskError> {
        match (&self.json, &self.body) {
            (Some(_), Some(_)) => {
                Err(TaskError::Permanent("VALIDATION_ERROR: give json or body, not both".to_owned()))
            }
            (Some(json), None) => Ok((json.to_string().into(), Some("application/json"))),
            (None, body) => Ok((body.clone().unwrap_or_default().into(), None)),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Url(pub(super) Uri);

impl TryFrom<String> for Url {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|_| "must be a URL".to_owned())?;
        Target::of(&uri)?;
        Ok(Self(uri))
    }
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Verb(pub(super) Method);

impl Default for Verb {
    fn default() -> Self {
        Self(Method::POST)
    }
}

impl TryFrom<String> for Verb {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "GET" => Ok(Self(Method::GET)),
            "POST" => Ok(Self(Method::POST)),
            "PUT" => Ok(Self(Method::PUT)),
            "PATCH" => Ok(Self(Method::PATCH)),
            "DELETE" => Ok(Self(Method::DELETE)),
            _ => Err("must be one of GET, POST, PUT, PATCH, DELETE"),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "f64")]
pub(super) struct Patience(pub(super) Duration);

impl Default for Patience {
    fn default() -> Self {
        Self(Duration::from_secs_f64(PATIENCE))
    }
}

impl TryFrom<f64> for Patience {
    type Error = String;

    fn try_from(seconds: f64) -> Result<Self, String> {
        let allowed = (0.1..=MOST_PATIENCE).contains(&seconds);
        let refused = || format!("must be from 0.1 to {MOST_PATIENCE} seconds");
        allowed.then(|| Self(Duration::from_secs_f64(seconds))).ok_or_else(refused)
    }
}

/// The request's own headers.
pub(super) fn headers(given: &Map<String, Value>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let wrong = |what: &str| format!("VALIDATION_ERROR: headers.{name}: {what}");
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("is no name of a header"))?;
        if OURS.contains(&key.as_str()) {
            return Err(wrong("is set by the platform"));
        }
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        headers.insert(key, HeaderValue::from_str(&text).map_err(|_| wrong("is no value of a header"))?);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn params_are_checked_before_anything_is_sent() {
        for bad in [
            json!({}),
            json!({"url": "ftp://a.example"}),
            json!({"url": "/x"}),
            json!({"url": "http://me:secret@a.example"}),
            json!({"url": "http://a.example", "method": "BREW"}),
            json!({"url": "http://a.example", "timeout_seconds": 0}),
            json!({"url": "http://a.example", "x": 0}),
        ] {
            assert!(serde_json::from_value::<RequestParams>(bad.clone()).is_err(), "{bad}");
        }
        let headers_of = |given: Value| headers(given.as_object().unwrap());
        assert!(headers_of(json!({"Host": "x"})).is_err());
        assert!(headers_of(json!({"a b": "x"})).is_err());
        assert!(headers_of(json!({"X-A": "x\ny"})).is_err());
        assert_eq!(headers_of(json!({"X-A": 7})).unwrap()["x-a"], "7");
    }
}
