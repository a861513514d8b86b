//! The token of commands that call a running service.

use access::{TokenFile, bearer_header};
use http::HeaderValue;
use settings::{ResolvedSettings, SettingError};

/// The `Authorization` header of `--token-file`, else of `ORDER_SERVICE_TOKEN`.
pub(super) fn command_token(
    resolved: &ResolvedSettings,
) -> Result<Option<HeaderValue>, SettingError> {
    const SETTING: &str = "token";
    if let Some(file) = resolved.get_file("token-file") {
        return Ok(Some(file.open(TokenFile::open)?.header()));
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
    let Some(token) = std::env::var_os(variable).filter(|token| !token.is_empty()) else {
        return command_token(resolved);
    };
    // Not passed over: the call would be another client's.
    let header = token.to_str().and_then(|token| bearer_header(token.trim()));
    header.map(Some).ok_or_else(|| {
        let reason = format!("{variable} must be one token of printable characters");
        resolved.invalid_setting("token", reason)
    })
}
