//! `GET` and `PUT /v1/states/{type}`.

use std::sync::Arc;

use access::{RouteAccess, Scope};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderName, header};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use serving::error::{ApiError, ErrorCode};
use serving::path::DecodedPath;
use serving::query::DecodedQuery;
use serving::scoped_router::ScopedRouter;

use super::reads::shard_error;
use super::type_access::check_type_access;
use crate::Ledger;
use crate::attributes::LedgerKey;
use crate::events::unknown_type_error;
use crate::json::JsonRefusal;
use crate::states::{self, StateWrite, StateWriteOutcome};
use serving::body::JsonBody;
use serving::caller::Caller;

type StateQueryParameters = DecodedQuery<Vec<(String, String)>>;

pub(super) fn build_state_routes() -> ScopedRouter<Arc<Ledger>> {
    ScopedRouter::new()
        .get("/v1/states/{type}", RouteAccess::TypeInPath(Scope::LedgerRead), get_state)
        .put("/v1/states/{type}", RouteAccess::TypeInPath(Scope::LedgerWrite), put_state)
}

#[derive(Serialize)]
struct StateResponse<'a> {
    state: &'a RawValue,
    version: i64,
}

async fn get_state(
    State(ledger): State<Arc<Ledger>>,
    caller: Caller,
    DecodedPath(name): DecodedPath<String>,
    parameters: StateQueryParameters,
) -> Result<Response, ApiError> {
    let is_known = ledger.types.current().states.contains_key(&name);
    check_type_access(&caller, Scope::LedgerRead, || "type".to_owned(), &name, is_known)?;
    let target = parse_state_target(&ledger, &name, &parameters)?;
    let Some(found) = ledger.states.get(&target).await.map_err(shard_error)? else {
        return Err(ApiError::new(
            ErrorCode::NotFound,
            format!("there is no state of {name} with {}", target.attributes),
        ));
    };
    let version = found.version;
    let state = RawValue::from_string(found.state).map_err(|_| {
        ApiError::new(ErrorCode::ConsistencyError, "what is stored as a state is not JSON")
    })?;
    Ok(([etag_header(version)], Json(StateResponse { state: &state, version })).into_response())
}

async fn put_state(
    State(ledger): State<Arc<Ledger>>,
    caller: Caller,
    DecodedPath(name): DecodedPath<String>,
    parameters: StateQueryParameters,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let is_known = ledger.types.current().states.contains_key(&name);
    check_type_access(&caller, Scope::LedgerWrite, || "type".to_owned(), &name, is_known)?;
    let target = parse_state_target(&ledger, &name, &parameters)?;
    let expected_version = parse_expected_version(&headers)?;
    let text =
        std::str::from_utf8(&body).map_err(|_| ApiError::invalid_field("body", "must be UTF-8"))?;
    let put = StateWrite::new(target, text, expected_version)
        .map_err(|reason| invalid_state_error("body", reason))?;
    match ledger.states.put(put).await.map_err(shard_error)? {
        StateWriteOutcome::Written { version } => {
            Ok(([etag_header(version)], Json(json!({"version": version}))).into_response())
        }
        StateWriteOutcome::Stale { version } => Err(states::stale_state_error(version)),
    }
}

fn etag_header(version: i64) -> (header::HeaderName, String) {
    (header::ETAG, format!("\"{version}\""))
}

fn parse_state_target(
    ledger: &Ledger,
    name: &str,
    parameters: &StateQueryParameters,
) -> Result<LedgerKey, ApiError> {
    let types = ledger.types.current();
    let kind = types
        .states
        .get(name)
        .ok_or_else(|| unknown_type_error("type", name, types.states.keys()))?;
    LedgerKey::from_query(kind, &parameters.0)
}

/// Error for a rejected state; `field` is its request field.
pub(super) fn invalid_state_error(field: &str, reason: JsonRefusal) -> ApiError {
    match reason {
        JsonRefusal::TooDeep => ApiError::invalid_field(field, "is nested deeper than 32 levels"),
        JsonRefusal::Malformed(reason) => ApiError::invalid_field(field, reason),
    }
}

/// Expected version: that of `If-Match`, or 0 (must not exist) for `If-None-Match: *`.
fn parse_expected_version(headers: &HeaderMap) -> Result<Option<i64>, ApiError> {
    if let Some(value) =
        read_single_header(headers, &header::IF_NONE_MATCH, "must be *, or left out")?
    {
        if headers.contains_key(header::IF_MATCH) {
            return Err(ApiError::invalid_field("If-None-Match", "is of no use beside If-Match"));
        }
        return match value {
            "*" => Ok(Some(0)),
            _ => Err(ApiError::invalid_field(
                "If-None-Match",
                "must be *; to replace a version, name it in If-Match",
            )),
        };
    }
    let allowed = "must be one version (0: none yet), such as \"3\"";
    let Some(value) = read_single_header(headers, &header::IF_MATCH, allowed)? else {
        return Ok(None);
    };
    // A compressing proxy turns our tags into weak ones. They name the same version: a state has
    // one representation.
    let tag = value.strip_prefix("W/").filter(|tag| tag.starts_with('"')).unwrap_or(value);
    let digits = tag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(tag);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let version = digits.parse().ok().filter(|_| is_number);
    version.map(Some).ok_or_else(|| ApiError::invalid_field("If-Match", allowed))
}

/// Value of a header that may occur once.
fn read_single_header<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
    allowed: &str,
) -> Result<Option<&'h str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let value = value.to_str().ok().filter(|_| values.next().is_none()).map(str::trim);
    let shown = if *name == header::IF_MATCH { "If-Match" } else { "If-None-Match" };
    value.map(Some).ok_or_else(|| ApiError::invalid_field(shown, allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_if_match(values: &[&str]) -> Result<Option<i64>, ()> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::IF_MATCH, value.parse().unwrap());
        }
        parse_expected_version(&headers).map_err(drop)
    }

    #[test]
    fn if_match_is_a_version_quoted_or_not() {
        assert_eq!(parse_if_match(&[]), Ok(None));
        assert_eq!(parse_if_match(&["7"]), Ok(Some(7)));
        assert_eq!(parse_if_match(&["\"0\""]), Ok(Some(0)));
        for bad in [
            "",
            "\"\"",
            "\"",
            "*",
            "W/3",
            "w/\"3\"",
            "W/\"x\"",
            "-1",
            "+1",
            "1.0",
            "1, 2",
            "9223372036854775808",
            "\"1",
        ] {
            assert_eq!(parse_if_match(&[bad]), Err(()), "{bad}");
        }
        assert_eq!(parse_if_match(&["1", "1"]), Err(()));
        assert_eq!(parse_if_match(&["W/\"3\""]), Ok(Some(3)), "as a proxy makes of ours");
    }

    #[test]
    fn if_none_match_is_there_must_be_none() {
        let of = |values: &[(HeaderName, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in values {
                headers.append(name, value.parse().unwrap());
            }
            parse_expected_version(&headers).map_err(drop)
        };
        let none_match = header::IF_NONE_MATCH;
        assert_eq!(of(&[(none_match.clone(), "*")]), Ok(Some(0)));
        assert_eq!(of(&[(none_match.clone(), "\"3\"")]), Err(()));
        assert_eq!(of(&[(none_match.clone(), "*"), (none_match.clone(), "*")]), Err(()));
        assert_eq!(of(&[(none_match, "*"), (header::IF_MATCH, "0")]), Err(()));
    }
}
