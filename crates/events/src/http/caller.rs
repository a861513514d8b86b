//! Who asks: put into a request's extensions by whoever authenticates clients; without one, everybody is anonymous and trusted.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::request::Parts;
use serving::error::{ApiError, ErrorCode};

use crate::configs::check_identifier;

/// An authenticated client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiCaller {
    /// Its name.
    pub name: String,
    /// Whether it may speak for others.
    pub admin: bool,
}

/// The caller, if clients are configured.
pub(super) struct OptionalCaller(Option<ApiCaller>);

impl<S: Sync> FromRequestParts<S> for OptionalCaller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get::<ApiCaller>().cloned()))
    }
}

impl OptionalCaller {
    /// The author of what is written: the caller; another one only where that is allowed.
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
