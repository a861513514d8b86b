//! The right to the types that a request names.

use access::Scope;
use serving::caller::Caller;
use serving::error::ApiError;

use crate::events::shorten_text;

/// Checks a scope that may be narrowed to types, for a type that a request names in `field`. It
/// comes before the error about an unknown type, which lists all types: a client with a narrowed
/// scope must not learn the names of others.
pub(super) fn check_type_access(
    caller: &Caller,
    scope: Scope,
    field: impl FnOnce() -> String,
    name: &str,
    is_known: bool,
) -> Result<(), ApiError> {
    if caller.has_scope(scope) {
        return Ok(());
    }
    caller.check_account_type(scope, name)?;
    if is_known {
        return Ok(());
    }
    Err(ApiError::invalid_field(field(), format!("unknown type `{}`", shorten_text(name))))
}
