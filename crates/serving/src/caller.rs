//! The caller of a request: who it is, and what a denied one gets.

use std::convert::Infallible;
use std::net::IpAddr;

use access::{Denial, DenialReason, RequestClient, Scope};
use audit::AuditActor;
use axum::extract::FromRequestParts;
use http::Extensions;
use http::request::Parts;

use crate::error::{ApiError, ErrorCode};

/// Marks a request, by its address, that was let through without credentials because its route is
/// open.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnonymousCaller(pub(crate) IpAddr);

/// The address that a request came from, in its extensions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallerAddress(pub(crate) IpAddr);

/// Extractor: the caller. Without configured clients every caller is anonymous and trusted.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    client: Option<RequestClient>,
    address: Option<IpAddr>,
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of_extensions(&parts.extensions))
    }
}

impl Caller {
    /// The caller of a request with these extensions, also of a gRPC call.
    pub fn of_extensions(extensions: &Extensions) -> Self {
        Self {
            client: extensions.get::<RequestClient>().cloned(),
            address: extensions.get::<CallerAddress>().map(|address| address.0),
        }
    }

    /// The caller as the actor of its changes in the audit trail.
    pub fn to_audit_actor(&self) -> AuditActor {
        AuditActor::of_caller(self.name(), self.address.map(|address| address.to_canonical()))
    }

    /// Name of the authenticated client; `None` if no clients are configured.
    pub fn name(&self) -> Option<&str> {
        self.client.as_ref().map(RequestClient::name)
    }

    /// Whether the caller may do everything of a scope.
    pub fn has_scope(&self, scope: Scope) -> bool {
        self.client.as_ref().is_none_or(|client| client.has_scope(scope))
    }

    /// Checks a scope that the request needs beside its route's.
    pub fn check_scope(&self, scope: Scope) -> Result<(), ApiError> {
        let Some(client) = &self.client else { return Ok(()) };
        client.check_scope(scope).map_err(|denial| {
            denial.record();
            denied_error(&denial)
        })
    }

    /// Checks a scope that may be narrowed to account types, for one of them.
    pub fn check_account_type(&self, scope: Scope, account_type: &str) -> Result<(), ApiError> {
        let Some(client) = &self.client else { return Ok(()) };
        client.check_account_type(scope, account_type).map_err(|denial| {
            denial.record();
            denied_error(&denial)
        })
    }

    /// Identity of a write: the client's name. Another name, in `field` of the body, needs the scope
    /// admin. Without configured clients it is the name of the body.
    pub fn resolve_identity(
        &self,
        field: &str,
        named: Option<&str>,
    ) -> Result<Option<String>, ApiError> {
        let Some(client) = &self.client else { return Ok(named.map(str::to_owned)) };
        match named {
            Some(named) if named != client.name() && !client.is_admin() => {
                let denial = client.foreign_identity_denial();
                denial.record();
                let mut error = denied_error(&denial).with_arg("field", field);
                error.message = format!("{field}: {}", error.message);
                Err(error)
            }
            named => Ok(Some(named.unwrap_or(client.name()).to_owned())),
        }
    }
}

/// The error of a denied call.
pub(crate) fn denied_error(denial: &Denial) -> ApiError {
    let code = match denial.reason {
        DenialReason::MissingScope | DenialReason::ForeignIdentity => ErrorCode::PermissionDenied,
        DenialReason::TooManyWrongTokens => ErrorCode::Overloaded,
        DenialReason::NoCredentials
        | DenialReason::MalformedCredentials
        | DenialReason::UnknownToken
        | DenialReason::ExpiredToken
        | DenialReason::WrongSignedToken(_)
        | DenialReason::WrongCertificate
        | DenialReason::UnknownCertificate
        | DenialReason::ExpiredCertificate
        | DenialReason::ConflictingCredentials => ErrorCode::Unauthenticated,
        // The call was let in and may have had its effect: no definite refusal. The next call gets one.
        DenialReason::Withdrawn => ErrorCode::Unavailable,
    };
    let error = ApiError::new(code, denial.message());
    match denial.demanded.and_then(access::RouteAccess::scope) {
        Some(scope) if denial.reason == DenialReason::MissingScope => {
            error.with_arg("scope", scope.name())
        }
        _ => error,
    }
}
