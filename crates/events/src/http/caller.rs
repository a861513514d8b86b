//! The author of what a caller writes.

use serving::caller::Caller;
use serving::error::ApiError;

use crate::configs::check_identifier;

/// Author where no clients are configured and none is named.
const ANONYMOUS_AUTHOR: &str = "anonymous";

/// Author of a write: the caller, or `named_author` if the caller is an admin or anonymous.
pub(super) fn resolve_author(
    caller: &Caller,
    named_author: Option<&str>,
) -> Result<String, ApiError> {
    if let Some(named) = named_author {
        check_identifier(named).map_err(|reason| ApiError::invalid_field("author", reason))?;
    }
    let author = caller.resolve_identity("author", named_author)?;
    Ok(author.unwrap_or_else(|| ANONYMOUS_AUTHOR.to_owned()))
}
