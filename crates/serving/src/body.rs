//! Request bodies: JSON, said to be JSON, of at most 8 MiB, here within half a minute.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Deserialize;

use crate::error::{ApiError, Code};

/// Largest body, in bytes.
const LARGEST: usize = 8 << 20;
/// A body that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A body that says of itself that it is JSON.
pub struct JsonBody(pub Bytes);

impl<S: Sync> FromRequest<S> for JsonBody {
    type Rejection = Response;

    async fn from_request(request: Request, _: &S) -> Result<Self, Response> {
        read(request).await.map(JsonBody).map_err(IntoResponse::into_response)
    }
}

async fn read(request: Request) -> Result<Bytes, ApiError> {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(ApiError::field("Content-Type", "must be application/json"));
    }
    let collected =
        tokio::time::timeout(PATIENCE, Limited::new(request.into_body(), LARGEST).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(ApiError::new(Code::TooLarge, format!("the body is larger than {} MiB", LARGEST >> 20)))
        }
        Ok(Err(_)) => Err(ApiError::new(Code::ValidationError, "the body could not be read to its end")),
        Err(_) => Err(ApiError::new(Code::Timeout, "the body took too long to arrive")),
    }
}

/// Reads a body's shape, which is that of an object; what is wrong is said with the field and its place.
pub fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    let text = std::str::from_utf8(body).map_err(|_| ApiError::field("body", "must be UTF-8"))?;
    // A list of the right values in the right order would do as well, to serde.
    if text.trim_start().starts_with('[') {
        return Err(ApiError::field("body", "must be an object"));
    }
    serde_json::from_str(text).map_err(|_| {
        // Once more, slower, to learn where.
        let deserializer = &mut serde_json::Deserializer::from_str(text);
        match serde_path_to_error::deserialize::<_, T>(deserializer) {
            Ok(_) => ApiError::field("body", "there is something after the JSON value"),
            Err(error) => explain(&error),
        }
    })
}

fn explain(error: &serde_path_to_error::Error<serde_json::Error>) -> ApiError {
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
    ApiError::field(field, reason)
}

/// The answer to a method that a route does not have.
pub async fn method_not_allowed() -> Response {
    let mut response =
        ApiError::new(Code::ValidationError, "this address does not know this method").into_response();
    *response.status_mut() = http::StatusCode::METHOD_NOT_ALLOWED;
    response
}
