//! The token of commands that call a running service.

use access::{TokenFile, bearer_header};
use http::HeaderValue;
use settings::{ResolvedSettings, SettingError};

/// The `Authorization` header of `--token-file`, else of `ORDER_SERVICE_TOKEN`.
pub(super) fn command_token(
    resolved: &ResolvedSettings,
) -> Result<Option<HeaderValue>, SettingError> {
    const SETTING: &str = "token";
    if let Some(file) = resolved.open_file("token-file", TokenFile::open)? {
        return Ok(Some(file.header()));
    }
    let Some(token) = resolved.get_value(SETTING) else { return Ok(None) };
    let header = bearer_header(token.text().trim());
    header.map(Some).ok_or_else(|| {
        resolved.invalid_setting(SETTING, "must be one token of printable characters".to_owned())
    })
}

/// Like [`command_token`]; a variable of the command itself comes first.
pub(super) fn command_token_or_variable(
    resolved: &ResolvedSettings,
    variable: &str,
) -> Result<Option<HeaderValue>, SettingError> {
    match std::env::var(variable).ok().and_then(|token| bearer_header(token.trim())) {
        Some(header) => Ok(Some(header)),
        None => command_token(resolved),
    }
}
