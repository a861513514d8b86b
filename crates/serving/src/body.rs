//! Request bodies: JSON, said to be JSON, of at most 8 MiB.

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

/// Largest body, in bytes.
const MAX_BODY_BYTES: usize = 8 << 20;
/// Room made for a body before any of it is there.
const INITIAL_BODY_BYTES: usize = 64 << 10;

/// A body that says of itself that it is JSON.
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

/// Whether the headers say that the body is JSON.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    media_type(headers).eq_ignore_ascii_case("application/json")
}

/// Whether the headers say that the body is a form's fields.
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

/// What the head says of a body that cannot be taken is answered before any of it is asked for (`Expect: 100-continue`).
pub(crate) fn check_body_headers(headers: &HeaderMap) -> Result<(), Box<Response>> {
    let unsupported = |field: &str, reason: String| {
        let response = ApiError::invalid_field(field, reason)
            .into_response_with(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        Err(Box::new(response))
    };
    let encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    for encoding in encodings.map(|value| value.to_str().unwrap_or("?").trim()) {
        if !encoding.eq_ignore_ascii_case("identity") {
            return unsupported(
                "Content-Encoding",
                format!("`{encoding}` is not taken: send the body as it is"),
            );
        }
    }
    if let Some(charset) = content_charset(headers)
        && !["utf-8", "utf8", "us-ascii"].iter().any(|known| charset.eq_ignore_ascii_case(known))
    {
        return unsupported(
            "Content-Type",
            format!("the charset `{charset}` is not taken: send UTF-8"),
        );
    }
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > MAX_BODY_BYTES as u64) {
        return Err(Box::new(too_large_error().into_response()));
    }
    Ok(())
}

/// The charset that the media type names, without its quotes.
fn content_charset(headers: &HeaderMap) -> Option<&str> {
    let parameters = headers.get(header::CONTENT_TYPE)?.to_str().ok()?.split(';').skip(1);
    let charset = parameters.filter_map(|parameter| parameter.split_once('='));
    let (_, value) = charset
        .map(|(name, value)| (name.trim(), value.trim()))
        .find(|(name, _)| name.eq_ignore_ascii_case("charset"))?;
    Some(value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value))
}

/// A whole body, of at most 8 MiB. How long it may take and how many there may be is up to [`crate::server`].
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

/// Why a body ended before its end: the server's own reason, if it has one.
fn unreadable_error(error: axum::Error) -> ApiError {
    match error.into_inner().downcast::<ApiError>() {
        Ok(reason) => *reason,
        Err(_) => {
            ApiError::new(ErrorCode::ValidationError, "the body could not be read to its end")
        }
    }
}

/// Reads a body's shape, which is that of an object; what is wrong is said with the field and its place.
pub fn parse_object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    let text =
        std::str::from_utf8(body).map_err(|_| ApiError::invalid_field("body", "must be UTF-8"))?;
    // A list of the right values in the right order would do as well, to serde.
    if text.trim_start().starts_with('[') {
        return Err(ApiError::invalid_field("body", "must be an object"));
    }
    serde_json::from_str(text).map_err(|_| {
        // Once more, slower, to learn where.
        let deserializer = &mut serde_json::Deserializer::from_str(text);
        match serde_path_to_error::deserialize::<_, T>(deserializer) {
            Ok(_) => ApiError::invalid_field("body", "there is something after the JSON value"),
            Err(error) => explain_error(&error),
        }
    })
}

/// Reads a list of objects, for `#[serde(deserialize_with)]`: a list in the place of one is refused, as in [`parse_object`].
pub fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let objects = Vec::<JsonObject<T>>::deserialize(deserializer)?;
    Ok(objects.into_iter().map(|JsonObject(value)| value).collect())
}

/// Like [`objects`], for a list that may be left out: null counts as left out.
pub fn objects_or_none<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let objects = Option::<Vec<JsonObject<T>>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(objects.into_iter().map(|JsonObject(value)| value).collect())
}

/// Reads what may be left out, for `#[serde(default, deserialize_with)]`: null counts as left out.
pub fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Reads a guard (`lock_id`, `expected_version`, `request_id`), for `#[serde(default, deserialize_with)]`: it may be left
/// out, but null is an error. Who sends one means to be guarded.
pub fn guard<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// What is written as an object.
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
    let quoted = |before: &str| reason.strip_prefix(before).and_then(|rest| rest.split('`').next());
    let member = quoted("missing field `").filter(|member| !path.ends_with(member));
    let field = match (path.as_str(), member) {
        ("." | "?", None) => "body".to_owned(),
        ("." | "?", Some(member)) => member.to_owned(),
        (path, None) => path.to_owned(),
        (path, Some(member)) => format!("{path}.{member}"),
    };
    ApiError::invalid_field(field, reason)
}

/// The answer to a method that a route does not have.
pub async fn method_not_allowed() -> Response {
    ApiError::new(ErrorCode::ValidationError, "this address does not know this method")
        .into_response_with(StatusCode::METHOD_NOT_ALLOWED)
}
