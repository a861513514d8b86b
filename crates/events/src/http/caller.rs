//! Caller identity, put into the request extensions by the authentication layer. Without
//! authentication every caller is anonymous and trusted.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::request::Parts;
use serving::error::{ApiError, ErrorCode};

use crate::configs::check_identifier;

/// An authenticated API client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiCaller {
    /// Client name, used as the author.
    pub name: String,
    /// Whether it may name another author.
    pub admin: bool,
}

/// The caller; `None` if no clients are configured.
pub(super) struct OptionalCaller(Option<ApiCaller>);

impl<S: Sync> FromRequestParts<S> for OptionalCaller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get::<ApiCaller>().cloned()))
    }
}

impl OptionalCaller {
    /// Author of a write: the caller, or `named_author` if the caller is an admin or anonymous.
    pub(super) fn resolve_author(&self, named_author: Option<&str>) -> Result<String, ApiError> {
        if let Some(named) = named_author {
            check_identifier(named).map_err(|reason| ApiError::invalid_field("author", reason))?;
        }
        match (&self.0, named_author) {
            (None, named) => Ok(named.unwrap_or("anonymous").to_owned()),
            (Some(caller), Some(named)) if named != caller.name && !caller.admin => {
                let message = "author: only a client with the scope admin may name another author than itself";
                Err(ApiError::new(ErrorCode::PermissionDenied, message).with_arg("field", "author"))
            }
            (Some(caller), named) => Ok(named.unwrap_or(&caller.name).to_owned()),
        }
    }
}
