//! The one error vocabulary, and what it is in HTTP and gRPC.

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::{Map, Value, json};
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt as _};

/// When it is worth trying again after [`Code::Overloaded`].
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What went wrong, in the platform's words; the same in REST bodies, gRPC statuses, queue replies and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The caller's input is wrong.
    ValidationError,
    /// There is no such thing.
    NotFound,
    /// The same key with other content.
    Conflict,
    /// A version or a lock that no longer holds; the word is the same as for a key.
    Stale,
    /// Not allowed in the present state.
    Locked,
    /// An invariant of stored data does not hold.
    ConsistencyError,
    /// Temporary: try again.
    Unavailable,
    /// Too much at once.
    Overloaded,
    /// Larger than is allowed.
    TooLarge,
    /// It took too long.
    Timeout,
    /// Who the caller is, is not known.
    Unauthenticated,
    /// Not allowed for this caller.
    PermissionDenied,
    /// A bug: must never happen.
    LogicError,
    /// Anything else.
    InternalError,
}

impl Code {
    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            Code::ValidationError => "VALIDATION_ERROR",
            Code::NotFound => "NOT_FOUND",
            Code::Conflict | Code::Stale => "CONFLICT",
            Code::Locked => "LOCKED",
            Code::ConsistencyError => "CONSISTENCY_ERROR",
            Code::Unavailable => "UNAVAILABLE",
            Code::Overloaded => "OVERLOADED",
            Code::TooLarge => "TOO_LARGE",
            Code::Timeout => "TIMEOUT",
            Code::Unauthenticated => "UNAUTHENTICATED",
            Code::PermissionDenied => "PERMISSION_DENIED",
            Code::LogicError => "LOGIC_ERROR",
            Code::InternalError => "INTERNAL_ERROR",
        }
    }

    fn http(self) -> StatusCode {
        match self {
            Code::ValidationError => StatusCode::BAD_REQUEST,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::Conflict | Code::Stale => StatusCode::CONFLICT,
            Code::Locked => StatusCode::LOCKED,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::Overloaded => StatusCode::TOO_MANY_REQUESTS,
            Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::ConsistencyError | Code::LogicError | Code::InternalError => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    fn grpc(self) -> tonic::Code {
        match self {
            Code::ValidationError => tonic::Code::InvalidArgument,
            Code::NotFound => tonic::Code::NotFound,
            Code::Conflict => tonic::Code::AlreadyExists,
            Code::Stale => tonic::Code::Aborted,
            Code::Locked => tonic::Code::FailedPrecondition,
            Code::ConsistencyError => tonic::Code::DataLoss,
            Code::Unavailable => tonic::Code::Unavailable,
            Code::Overloaded | Code::TooLarge => tonic::Code::ResourceExhausted,
            Code::Timeout => tonic::Code::DeadlineExceeded,
            Code::Unauthenticated => tonic::Code::Unauthenticated,
            Code::PermissionDenied => tonic::Code::PermissionDenied,
            Code::LogicError | Code::InternalError => tonic::Code::Internal,
        }
    }
}

/// An error on its way to a caller.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}: {message}", code.name())]
pub struct ApiError {
    /// What went wrong.
    pub code: Code,
    /// One sentence for a person.
    pub message: String,
    /// For bad input: each field and what is wrong with it.
    pub fields: Vec<(String, String)>,
    /// What a REST body says in the error's `args`, beside the fields. Boxed, as the next: most errors have neither.
    pub args: Box<Map<String, Value>>,
    /// What a REST body says beside the error.
    pub beside: Box<Map<String, Value>>,
}

impl ApiError {
    /// An error that is not about single fields.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            fields: Vec::new(),
            args: Box::default(),
            beside: Box::default(),
        }
    }

    /// With an argument.
    pub fn arg(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.args.insert(name.to_owned(), value.into());
        self
    }

    /// With more in the REST body, beside the error.
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.beside.insert(name.to_owned(), value);
        self
    }

    /// Bad input: the field as the caller wrote it, and what is wrong or allowed; as much of both as is of use.
    pub fn field(field: impl Into<String>, reason: impl Into<String>) -> Self {
        let (field, reason) = (beginning(field.into(), 200), beginning(reason.into(), 2000));
        Self {
            code: Code::ValidationError,
            message: format!("{field}: {reason}"),
            fields: vec![(field, reason)],
            args: Box::default(),
            beside: Box::default(),
        }
    }
}

/// Database trouble as a caller sees it, of HTTP and of gRPC: its own words stay in the log. `whose`: what did not do its
/// work, such as `the control database`. There is no other such mapping.
pub fn of_database(whose: &str, error: store::Error) -> ApiError {
    if error.is_temporary() {
        tracing::warn!(%error, code = "UNAVAILABLE", "{whose} did not do its work");
        return ApiError::new(Code::Unavailable, format!("{whose} does not answer; try again"));
    }
    tracing::error!(%error, code = "INTERNAL_ERROR", "{whose} refused its work");
    ApiError::new(Code::InternalError, format!("{whose} refused; see the log"))
}

/// So many characters of a text, which a caller may have made long.
fn beginning(mut text: String, most: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(most) {
        text.truncate(end);
        text.push('…');
    }
    text
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        if error.code == Code::Overloaded {
            let details = ErrorDetails::with_retry_info(Some(RETRY_AFTER));
            return Status::with_error_details(error.code.grpc(), error.message, details);
        }
        if error.fields.is_empty() {
            return Status::new(error.code.grpc(), error.message);
        }
        let mut details = ErrorDetails::new();
        for (field, reason) in error.fields {
            details.add_bad_request_violation(field, reason);
        }
        Status::with_error_details(error.code.grpc(), error.message, details)
    }
}

impl ApiError {
    /// The REST body.
    pub fn body(self) -> Value {
        let mut args = *self.args;
        args.extend(self.fields.into_iter().map(|(field, reason)| (field, reason.into())));
        let mut body = json!({"error": {"code": self.code.name(), "message": self.message, "args": args}});
        if let Some(body) = body.as_object_mut() {
            body.extend(*self.beside);
        }
        body
    }

    /// The REST answer with one of HTTP's own statuses, where they say more than the code's.
    pub fn into_response_with(self, status: StatusCode) -> Response {
        let mut response = self.into_response();
        *response.status_mut() = status;
        response
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let code = self.code;
        let mut response = (code.http(), Json(self.body())).into_response();
        if code == Code::Overloaded {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER.as_secs().into());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_trouble_is_the_same_over_http_and_grpc() {
        let fenced = store::Error::Fenced { lease_id: 1, epoch: 1 };
        for error in [store::Error::Abandoned, fenced, store::Error::OutcomeUnknown] {
            let error = of_database("the control database", error);
            assert_eq!(error.clone().into_response().status(), 503);
            assert_eq!(Status::from(error).code(), tonic::Code::Unavailable);
        }
        let refused = of_database("the control database", store::Error::UniqueViolation("key".to_owned()));
        assert_eq!(refused.message, "the control database refused; see the log");
        assert_eq!(refused.clone().into_response().status(), 500);
        assert_eq!(Status::from(refused).code(), tonic::Code::Internal);
    }

    #[test]
    fn every_code_has_its_word_and_statuses() {
        use tonic::Code as G;
        for (code, name, http, grpc) in [
            (Code::ValidationError, "VALIDATION_ERROR", 400, G::InvalidArgument),
            (Code::NotFound, "NOT_FOUND", 404, G::NotFound),
            (Code::Conflict, "CONFLICT", 409, G::AlreadyExists),
            (Code::Stale, "CONFLICT", 409, G::Aborted),
            (Code::Locked, "LOCKED", 423, G::FailedPrecondition),
            (Code::ConsistencyError, "CONSISTENCY_ERROR", 500, G::DataLoss),
            (Code::Unavailable, "UNAVAILABLE", 503, G::Unavailable),
            (Code::Overloaded, "OVERLOADED", 429, G::ResourceExhausted),
            (Code::TooLarge, "TOO_LARGE", 413, G::ResourceExhausted),
            (Code::Timeout, "TIMEOUT", 504, G::DeadlineExceeded),
            (Code::Unauthenticated, "UNAUTHENTICATED", 401, G::Unauthenticated),
            (Code::PermissionDenied, "PERMISSION_DENIED", 403, G::PermissionDenied),
            (Code::LogicError, "LOGIC_ERROR", 500, G::Internal),
            (Code::InternalError, "INTERNAL_ERROR", 500, G::Internal),
        ] {
            assert_eq!((code.name(), code.http().as_u16(), code.grpc()), (name, http, grpc));
        }
    }
}
