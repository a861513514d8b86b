//! Path parameters, with the common error body if one is not UTF-8.

use axum::extract::{FromRequestParts, Path as AnyPath};
use http::request::Parts;

use crate::error::ApiError;

/// Extractor: a percent-decoded path parameter.
pub struct DecodedPath<T>(pub T);

impl<S: Send + Sync> FromRequestParts<S> for DecodedPath<String> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let found = AnyPath::from_request_parts(parts, state).await;
        found
            .map(|AnyPath(name)| Self(name))
            .map_err(|_| ApiError::invalid_field("path", "must be UTF-8"))
    }
}
