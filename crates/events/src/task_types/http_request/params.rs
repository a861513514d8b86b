//! Params of `http_request`, validated during deserialization.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::WebhookTarget;

/// Total timeout including redirects, in seconds: default and maximum.
const DEFAULT_TIMEOUT_SECONDS: f64 = 30.0;
const MAX_TIMEOUT_SECONDS: f64 = 120.0;
/// Headers that the platform sets.
const RESERVED_HEADERS: [&str; 8] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "idempotency-key",
    "x-signature",
];

/// A validated webhook request.
#[derive(Debug, Deserialize)]
#[serde(try_from = "WebhookParamsInput")]
pub struct WebhookParams {
    pub(super) url: Uri,
    pub(super) method: Method,
    /// Custom headers of the request.
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Content type of the body, if known.
    pub(super) content_type: Option<HeaderValue>,
    pub(super) timeout: Duration,
}

/// Raw params before validation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookParamsInput {
    url: WebhookUrl,
    #[serde(default, deserialize_with = "serving::body::or_default")]
    method: WebhookMethod,
    /// JSON body; a `null` is sent as JSON `null`.
    #[serde(default, deserialize_with = "deserialize_present")]
    json: Option<Value>,
    /// Body sent as is.
    #[serde(default)]
    body: Option<String>,
    #[serde(default, deserialize_with = "serving::body::or_default")]
    headers: WebhookHeaders,
    #[serde(default, deserialize_with = "serving::body::or_default")]
    timeout_seconds: WebhookTimeout,
}

fn deserialize_present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl TryFrom<WebhookParamsInput> for WebhookParams {
    type Error = &'static str;

    fn try_from(input: WebhookParamsInput) -> Result<Self, Self::Error> {
        let (body, content_type) = match (input.json, input.body) {
            (Some(_), Some(_)) => return Err("give json or body, not both"),
            (Some(json), None) => {
                (json.to_string().into(), Some(HeaderValue::from_static("application/json")))
            }
            (None, body) => (body.unwrap_or_default().into(), None),
        };
        Ok(Self {
            url: input.url.0,
            method: input.method.0,
            headers: input.headers.0,
            body,
            content_type,
            timeout: input.timeout_seconds.0,
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct WebhookUrl(Uri);

impl TryFrom<String> for WebhookUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
        if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return Err("must begin with http:// or https://".to_owned());
        }
        let url = url::Url::parse(&text).map_err(|error| format!("must be a URL: {error}"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not hold credentials".to_owned());
        }
        // Non-ASCII characters and spaces are percent-encoded in it.
        let Ok(uri) = url.as_str().parse::<Uri>() else { return Err("must be a URL".to_owned()) };
        WebhookTarget::from_uri(&uri)?;
        Ok(Self(uri))
    }
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct WebhookMethod(Method);

impl Default for WebhookMethod {
    fn default() -> Self {
        Self(Method::POST)
    }
}

impl TryFrom<String> for WebhookMethod {
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
struct WebhookTimeout(Duration);

impl Default for WebhookTimeout {
    fn default() -> Self {
        Self(Duration::from_secs_f64(DEFAULT_TIMEOUT_SECONDS))
    }
}

impl TryFrom<f64> for WebhookTimeout {
    type Error = String;

    fn try_from(seconds: f64) -> Result<Self, String> {
        if !(0.1..=MAX_TIMEOUT_SECONDS).contains(&seconds) {
            return Err(format!("must be from 0.1 to {MAX_TIMEOUT_SECONDS} seconds"));
        }
        Ok(Self(Duration::from_secs_f64(seconds)))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "Map<String, Value>")]
struct WebhookHeaders(HeaderMap);

impl TryFrom<Map<String, Value>> for WebhookHeaders {
    type Error = String;

    fn try_from(given: Map<String, Value>) -> Result<Self, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            let key = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| format!("`{name}` is no name of a header"))?;
            if RESERVED_HEADERS.contains(&key.as_str()) {
                return Err(format!("`{name}` is set by the platform"));
            }
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let value = HeaderValue::from_str(&text)
                .map_err(|_| format!("`{name}` has no value of a header"))?;
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
            assert!(serde_json::from_value::<WebhookParams>(bad.clone()).is_err(), "{bad}");
        }
        let read = |given: Value| serde_json::from_value::<WebhookParams>(given).unwrap();
        let good = read(json!({"url": "http://a.example", "headers": {"X-A": 7}, "json": null}));
        assert_eq!(
            (&good.headers["x-a"], good.body.as_ref()),
            (&HeaderValue::from(7), b"null".as_slice())
        );
        assert_eq!(read(json!({"url": "http://a.example"})).content_type, None);
    }
}
