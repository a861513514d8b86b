//! Request bodies: JSON with a JSON content type, at most 8 MiB.

use std::marker::PhantomData;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::error::{ApiError, ErrorCode};

/// Maximum body size in bytes.
const MAX_BODY_BYTES: usize = 8 << 20;
/// Maximum buffer allocated from `Content-Length` before data arrives.
const INITIAL_BODY_BYTES: usize = 64 << 10;

/// Extractor: a body with the content type `application/json`.
pub struct JsonBody(pub Bytes);

impl<S: Sync> FromRequest<S> for JsonBody {
    type Rejection = Response;

    async fn from_request(request: Request, _: &S) -> Result<Self, Response> {
        read_json_body(request).await.map(JsonBody).map_err(IntoResponse::into_response)
    }
}

async fn read_json_body(request: Request) -> Result<Bytes, ApiError> {
    if !is_json(request.headers()) {
        return Err(not_json_error());
    }
    collect_body(request.into_body()).await
}

/// Whether the content type is JSON.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    media_type(headers).eq_ignore_ascii_case("application/json")
}

/// Whether the content type is that of a form.
pub(crate) fn is_form(headers: &HeaderMap) -> bool {
    media_type(headers).eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

fn media_type(headers: &HeaderMap) -> &str {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim()
}

pub(crate) fn not_json_error() -> ApiError {
    ApiError::invalid_field("Content-Type", "must be application/json")
}

/// Rejects unacceptable bodies by their headers, before the body is requested (`Expect:
/// 100-continue`).
pub(crate) fn check_body_headers(headers: &HeaderMap) -> Result<(), Box<Response>> {
    let encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    for encoding in encodings.map(|value| value.to_str().unwrap_or("?").trim()) {
        if !encoding.eq_ignore_ascii_case("identity") {
            let reason = format!("`{encoding}` is not taken: send the body as it is");
            return Err(unsupported_response("Content-Encoding", reason));
        }
    }
    if let Some(charset) = content_charset(headers)
        && !["utf-8", "utf8", "us-ascii"].iter().any(|known| charset.eq_ignore_ascii_case(known))
    {
        let reason = format!("the charset `{charset}` is not taken: send UTF-8");
        return Err(unsupported_response("Content-Type", reason));
    }
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > MAX_BODY_BYTES as u64) {
        return Err(Box::new(too_large_error().into_response()));
    }
    Ok(())
}

fn unsupported_response(field: &str, reason: String) -> Box<Response> {
    let error = ApiError::invalid_field(field, reason);
    Box::new(error.into_response_with(StatusCode::UNSUPPORTED_MEDIA_TYPE))
}

/// The `charset` parameter of the content type, without quotes.
fn content_charset(headers: &HeaderMap) -> Option<&str> {
    let parameters = headers.get(header::CONTENT_TYPE)?.to_str().ok()?.split(';').skip(1);
    let charset = parameters.filter_map(|parameter| parameter.split_once('='));
    let (_, value) = charset
        .map(|(name, value)| (name.trim(), value.trim()))
        .find(|(name, _)| name.eq_ignore_ascii_case("charset"))?;
    Some(value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value))
}

/// Reads a whole body of at most 8 MiB. Time and memory across requests
/// are bounded by [`crate::server`].
pub async fn collect_body(mut body: Body) -> Result<Bytes, ApiError> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(MAX_BODY_BYTES);
    if announced > MAX_BODY_BYTES {
        return Err(too_large_error());
    }
    let mut bytes = BytesMut::with_capacity(announced.min(INITIAL_BODY_BYTES));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(unreadable_error)?;
        let Some(part) = frame.data_ref() else { continue };
        if bytes.len() + part.len() > MAX_BODY_BYTES {
            return Err(too_large_error());
        }
        bytes.extend_from_slice(part);
    }
    Ok(bytes.freeze())
}

fn too_large_error() -> ApiError {
    ApiError::new(
        ErrorCode::TooLarge,
        format!("the body is larger than {} MiB", MAX_BODY_BYTES >> 20),
    )
}

/// Why a body ended early: the server's own error, if it caused the end.
fn unreadable_error(error: axum::Error) -> ApiError {
    match error.into_inner().downcast::<ApiError>() {
        Ok(reason) => *reason,
        Err(_) => {
            ApiError::new(ErrorCode::ValidationError, "the body could not be read to its end")
        }
    }
}

/// Deserializes a body that must be an object; errors contain the field's path.
pub fn parse_object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    let text =
        std::str::from_utf8(body).map_err(|_| ApiError::invalid_field("body", "must be UTF-8"))?;
    // serde would accept an array of the fields' values in order.
    if text.trim_start().starts_with('[') {
        return Err(ApiError::invalid_field("body", "must be an object"));
    }
    serde_json::from_str(text).map_err(|_| {
        // The slower second pass determines the field's path.
        let deserializer = &mut serde_json::Deserializer::from_str(text);
        match serde_path_to_error::deserialize::<_, T>(deserializer) {
            Ok(_) => ApiError::invalid_field("body", "there is something after the JSON value"),
            Err(error) => explain_error(&error),
        }
    })
}

/// Deserializes a list of objects, for `#[serde(deserialize_with)]`. An array instead of an object
/// is rejected, as in [`parse_object`].
pub fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let objects = Vec::<JsonObject<T>>::deserialize(deserializer)?;
    Ok(objects.into_iter().map(|JsonObject(value)| value).collect())
}

/// Like [`objects`], for an optional list: null counts as absent.
pub fn objects_or_none<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let objects = Option::<Vec<JsonObject<T>>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(objects.into_iter().map(|JsonObject(value)| value).collect())
}

/// Deserializes an optional field, for `#[serde(default, deserialize_with)]`:
/// null counts as absent.
pub fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Deserializes a guard (`lock_id`, `expected_version`, `request_id`), for `#[serde(default,
/// deserialize_with)]`: optional, but null is an error, because the sender intends to be guarded.
pub fn guard<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A value that must be a JSON object.
struct JsonObject<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for JsonObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct JsonObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for JsonObjectVisitor<T> {
            type Value = JsonObject<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members)).map(JsonObject)
            }
        }
        deserializer.deserialize_map(JsonObjectVisitor(PhantomData))
    }
}

fn explain_error(error: &serde_path_to_error::Error<serde_json::Error>) -> ApiError {
    let path = error.path().to_string();
    let reason = error.inner().to_string();
    let missing = reason.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
    let member = missing.filter(|member| !path.ends_with(member));
    let field = match (path.as_str(), member) {
        ("." | "?", None) => "body".to_owned(),
        ("." | "?", Some(member)) => member.to_owned(),
        (path, None) => path.to_owned(),
        (path, Some(member)) => format!("{path}.{member}"),
    };
    ApiError::invalid_field(field, reason)
}

/// Response for a method that the route does not support.
pub async fn method_not_allowed() -> Response {
    ApiError::new(ErrorCode::ValidationError, "this address does not know this method")
        .into_response_with(StatusCode::METHOD_NOT_ALLOWED)
}
