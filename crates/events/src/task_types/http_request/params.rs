//! What a webhook's params may be.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

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
#[serde(try_from = "Given")]
pub struct RequestParams {
    pub(super) url: Uri,
    pub(super) method: Method,
    /// The request's own headers.
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// The type of the body, if that is known.
    pub(super) content_type: Option<HeaderValue>,
    pub(super) patience: Duration,
}

/// As it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    url: Url,
    #[serde(default, deserialize_with = "serving::body::or_default")]
    method: Verb,
    /// The body, as JSON; null is JSON, too.
    #[serde(default, deserialize_with = "given")]
    json: Option<Value>,
    /// The body, as it is.
    #[serde(default)]
    body: Option<String>,
    #[serde(default, deserialize_with = "serving::body::or_default")]
    headers: Headers,
    #[serde(default, deserialize_with = "serving::body::or_default")]
    timeout_seconds: Patience,
}

fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl TryFrom<Given> for RequestParams {
    type Error = &'static str;

    fn try_from(given: Given) -> Result<Self, Self::Error> {
        let (body, content_type) = match (given.json, given.body) {
            (Some(_), Some(_)) => return Err("give json or body, not both"),
            (Some(json), None) => {
                (json.to_string().into(), Some(HeaderValue::from_static("application/json")))
            }
            (None, body) => (body.unwrap_or_default().into(), None),
        };
        Ok(Self {
            url: given.url.0,
            method: given.method.0,
            headers: given.headers.0,
            body,
            content_type,
            patience: given.timeout_seconds.0,
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Url(Uri);

impl TryFrom<String> for Url {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = |_| "must be a URL".to_owned();
        let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
        if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return Err("must begin with http:// or https://".to_owned());
        }
        let url = url::Url::parse(&text).map_err(|error| format!("must be a URL: {error}"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not hold credentials".to_owned());
        }
        // What is not ASCII, or a space, is encoded in it.
        let uri: Uri = url.as_str().parse().map_err(|error: http::uri::InvalidUri| wrong(error))?;
        Target::of(&uri)?;
        Ok(Self(uri))
    }
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Verb(Method);

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
struct Patience(Duration);

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

#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "Map<String, Value>")]
struct Headers(HeaderMap);

impl TryFrom<Map<String, Value>> for Headers {
    type Error = String;

    fn try_from(given: Map<String, Value>) -> Result<Self, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            let key = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| format!("`{name}` is no name of a header"))?;
            if OURS.contains(&key.as_str()) {
                return Err(format!("`{name}` is set by the platform"));
            }
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let value =
                HeaderValue::from_str(&text).map_err(|_| format!("`{name}` has no value of a header"))?;
            headers.insert(key, value);
        }
        Ok(Self(headers))
    }
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
            json!({"url": "http://a.example", "json": null, "body": ""}),
            json!({"url": "http://a.example", "headers": {"Host": "x"}}),
            json!({"url": "http://a.example", "headers": {"X-Signature": "x"}}),
            json!({"url": "http://a.example", "headers": {"a b": "x"}}),
            json!({"url": "http://a.example", "headers": {"X-A": "x\ny"}}),
        ] {
            assert!(serde_json::from_value::<RequestParams>(bad.clone()).is_err(), "{bad}");
        }
        let read = |given: Value| serde_json::from_value::<RequestParams>(given).unwrap();
        let good = read(json!({"url": "http://a.example", "headers": {"X-A": 7}, "json": null}));
        assert_eq!((&good.headers["x-a"], good.body.as_ref()), (&HeaderValue::from(7), b"null".as_slice()));
        assert_eq!(read(json!({"url": "http://a.example"})).content_type, None);
    }
}
