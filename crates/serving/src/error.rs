//! Error codes of the platform and their HTTP and gRPC statuses.

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt as _};

/// Retry delay sent with [`ErrorCode::Overloaded`].
const OVERLOADED_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Error code; the same in REST bodies, gRPC statuses, queue replies and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// The caller's input is invalid.
    ValidationError,
    /// The addressed object does not exist.
    NotFound,
    /// The key exists with different content.
    Conflict,
    /// A version or lock is no longer valid; REST uses the name `CONFLICT` as for keys.
    Stale,
    /// Not allowed in the current state.
    Locked,
    /// Stored data violates an invariant.
    ConsistencyError,
    /// Temporary failure: the caller may retry.
    Unavailable,
    /// Too many concurrent requests.
    Overloaded,
    /// The request exceeds a size limit.
    TooLarge,
    /// The request's deadline has passed.
    Timeout,
    /// Missing or invalid credentials.
    Unauthenticated,
    /// The caller lacks the permission.
    PermissionDenied,
    /// A bug: must never happen.
    LogicError,
    /// Any other internal error.
    InternalError,
}

impl ErrorCode {
    /// The code as text.
    pub fn name(self) -> &'static str {
        match self {
            ErrorCode::ValidationError => "VALIDATION_ERROR",
            ErrorCode::NotFound => "NOT_FOUND",
            ErrorCode::Conflict | ErrorCode::Stale => "CONFLICT",
            ErrorCode::Locked => "LOCKED",
            ErrorCode::ConsistencyError => "CONSISTENCY_ERROR",
            ErrorCode::Unavailable => "UNAVAILABLE",
            ErrorCode::Overloaded => "OVERLOADED",
            ErrorCode::TooLarge => "TOO_LARGE",
            ErrorCode::Timeout => "TIMEOUT",
            ErrorCode::Unauthenticated => "UNAUTHENTICATED",
            ErrorCode::PermissionDenied => "PERMISSION_DENIED",
            ErrorCode::LogicError => "LOGIC_ERROR",
            ErrorCode::InternalError => "INTERNAL_ERROR",
        }
    }

    fn http_status(self) -> StatusCode {
        match self {
            ErrorCode::ValidationError => StatusCode::BAD_REQUEST,
            ErrorCode::NotFound => StatusCode::NOT_FOUND,
            ErrorCode::Conflict | ErrorCode::Stale => StatusCode::CONFLICT,
            ErrorCode::Locked => StatusCode::LOCKED,
            ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::Overloaded => StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::Timeout => StatusCode::GATEWAY_TIMEOUT,
            ErrorCode::Unauthenticated => StatusCode::UNAUTHORIZED,
            ErrorCode::PermissionDenied => StatusCode::FORBIDDEN,
            ErrorCode::ConsistencyError | ErrorCode::LogicError | ErrorCode::InternalError => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    fn grpc_code(self) -> tonic::Code {
        match self {
            ErrorCode::ValidationError => tonic::Code::InvalidArgument,
            ErrorCode::NotFound => tonic::Code::NotFound,
            ErrorCode::Conflict => tonic::Code::AlreadyExists,
            ErrorCode::Stale => tonic::Code::Aborted,
            ErrorCode::Locked => tonic::Code::FailedPrecondition,
            ErrorCode::ConsistencyError => tonic::Code::DataLoss,
            ErrorCode::Unavailable => tonic::Code::Unavailable,
            ErrorCode::Overloaded | ErrorCode::TooLarge => tonic::Code::ResourceExhausted,
            ErrorCode::Timeout => tonic::Code::DeadlineExceeded,
            ErrorCode::Unauthenticated => tonic::Code::Unauthenticated,
            ErrorCode::PermissionDenied => tonic::Code::PermissionDenied,
            ErrorCode::LogicError | ErrorCode::InternalError => tonic::Code::Internal,
        }
    }
}

/// An error response to a caller.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}: {message}", code.name())]
pub struct ApiError {
    /// The error code.
    pub code: ErrorCode,
    /// A sentence for users.
    pub message: String,
    /// For invalid input: each field with its problem.
    pub fields: Vec<(String, String)>,
    /// Additional entries of `args` in the REST body. Boxed like `extra_members`, because
    /// most errors have neither.
    pub args: Box<Map<String, Value>>,
    /// Additional members of the REST body, beside `error`.
    pub extra_members: Box<Map<String, Value>>,
}

impl ApiError {
    /// An error without field problems.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            fields: Vec::new(),
            args: Box::default(),
            extra_members: Box::default(),
        }
    }

    /// Adds an entry to `args`.
    pub fn with_arg(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.args.insert(name.to_owned(), value.into());
        self
    }

    /// Adds a member to the REST body, beside `error`.
    pub fn with_member(mut self, name: &str, value: Value) -> Self {
        self.extra_members.insert(name.to_owned(), value);
        self
    }

    /// Invalid input: field name as the caller wrote it, and the problem; truncated to
    /// 200 and 2,000 characters.
    pub fn invalid_field(field: impl Into<String>, reason: impl Into<String>) -> Self {
        let (field, reason) =
            (truncate_text(field.into(), 200), truncate_text(reason.into(), 2000));
        Self {
            code: ErrorCode::ValidationError,
            message: format!("{field}: {reason}"),
            fields: vec![(field, reason)],
            args: Box::default(),
            extra_members: Box::default(),
        }
    }
}

/// Converts a failed database call for an HTTP or gRPC caller; the details go to the log only.
/// `dependency` names the database, such as `the control database`.
pub fn database_error(dependency: &str, error: store::Error) -> ApiError {
    if error.is_temporary() {
        tracing::warn!(%error, code = "UNAVAILABLE", "{dependency} did not do its work");
        return ApiError::new(
            ErrorCode::Unavailable,
            format!("{dependency} does not answer; try again"),
        );
    }
    tracing::error!(%error, code = "INTERNAL_ERROR", "{dependency} refused its work");
    ApiError::new(ErrorCode::InternalError, format!("{dependency} refused; see the log"))
}

/// [`database_error`] of the control database.
pub fn control_database_error(error: store::Error) -> ApiError {
    database_error("the control database", error)
}

/// Limits text from a caller to `max_chars` characters.
fn truncate_text(mut text: String, max_chars: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(max_chars) {
        text.truncate(end);
        text.push('…');
    }
    text
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        if error.code == ErrorCode::Overloaded {
            let details = ErrorDetails::with_retry_info(Some(OVERLOADED_RETRY_INTERVAL));
            return Status::with_error_details(error.code.grpc_code(), error.message, details);
        }
        if error.fields.is_empty() {
            return Status::new(error.code.grpc_code(), error.message);
        }
        let mut details = ErrorDetails::new();
        for (field, reason) in error.fields {
            details.add_bad_request_violation(field, reason);
        }
        Status::with_error_details(error.code.grpc_code(), error.message, details)
    }
}

impl ApiError {
    /// The JSON body of a REST response.
    pub fn into_rest_body(self) -> Value {
        let mut args = *self.args;
        args.extend(self.fields.into_iter().map(|(field, reason)| (field, reason.into())));
        let mut body =
            json!({"error": {"code": self.code.name(), "message": self.message, "args": args}});
        if let Some(body) = body.as_object_mut() {
            body.extend(*self.extra_members);
        }
        body
    }

    /// Like `into_response`, with an HTTP status that is more specific than the code's.
    pub fn into_response_with(self, status: StatusCode) -> Response {
        let mut response = self.into_response();
        *response.status_mut() = status;
        response
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let code = self.code;
        let mut response = (code.http_status(), Json(self.into_rest_body())).into_response();
        if code == ErrorCode::Unauthenticated {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        if code == ErrorCode::Overloaded {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, OVERLOADED_RETRY_INTERVAL.as_secs().into());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_trouble_is_the_same_over_http_and_grpc() {
        let fenced =
            store::Error::Fenced { lease_id: store::LeaseId(1), epoch: store::LeaseEpoch(1) };
        for error in [store::Error::Abandoned, fenced, store::Error::OutcomeUnknown] {
            let error = database_error("the control database", error);
            assert_eq!(error.clone().into_response().status(), 503);
            assert_eq!(Status::from(error).code(), tonic::Code::Unavailable);
        }
        let refused =
            database_error("the control database", store::Error::UniqueViolation("key".to_owned()));
        assert_eq!(refused.message, "the control database refused; see the log");
        assert_eq!(refused.clone().into_response().status(), 500);
        assert_eq!(Status::from(refused).code(), tonic::Code::Internal);
    }

    #[test]
    fn every_code_has_its_word_and_statuses() {
        use tonic::Code as G;
        for (code, name, http, grpc) in [
            (ErrorCode::ValidationError, "VALIDATION_ERROR", 400, G::InvalidArgument),
            (ErrorCode::NotFound, "NOT_FOUND", 404, G::NotFound),
            (ErrorCode::Conflict, "CONFLICT", 409, G::AlreadyExists),
            (ErrorCode::Stale, "CONFLICT", 409, G::Aborted),
            (ErrorCode::Locked, "LOCKED", 423, G::FailedPrecondition),
            (ErrorCode::ConsistencyError, "CONSISTENCY_ERROR", 500, G::DataLoss),
            (ErrorCode::Unavailable, "UNAVAILABLE", 503, G::Unavailable),
            (ErrorCode::Overloaded, "OVERLOADED", 429, G::ResourceExhausted),
            (ErrorCode::TooLarge, "TOO_LARGE", 413, G::ResourceExhausted),
            (ErrorCode::Timeout, "TIMEOUT", 504, G::DeadlineExceeded),
            (ErrorCode::Unauthenticated, "UNAUTHENTICATED", 401, G::Unauthenticated),
            (ErrorCode::PermissionDenied, "PERMISSION_DENIED", 403, G::PermissionDenied),
            (ErrorCode::LogicError, "LOGIC_ERROR", 500, G::Internal),
            (ErrorCode::InternalError, "INTERNAL_ERROR", 500, G::Internal),
        ] {
            assert_eq!(
                (code.name(), code.http_status().as_u16(), code.grpc_code()),
                (name, http, grpc)
            );
        }
    }
}
