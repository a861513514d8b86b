//! `GET` and `PUT /v1/states/{type}`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{HeaderMap, HeaderName, header};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use serving::error::{ApiError, Code};
use serving::path::Path;
use serving::query::Query;

use super::reads::unavailable;
use crate::Ledger;
use crate::attributes::Keyed;
use crate::events::unknown_type;
use crate::json::Refused;
use crate::states::{self, Outcome, Put};
use serving::body::JsonBody;

type Given = Query<Vec<(String, String)>>;

pub(super) fn routes() -> Router<Arc<Ledger>> {
    Router::new().route("/v1/states/{type}", get(look).put(put))
}

#[derive(Serialize)]
struct Shown<'a> {
    state: &'a RawValue,
    version: i64,
}

async fn look(
    State(ledger): State<Arc<Ledger>>,
    Path(name): Path<String>,
    given: Given,
) -> Result<Response, ApiError> {
    let of = keyed(&ledger, &name, &given)?;
    let Some(found) = ledger.states.get(&of).await.map_err(unavailable)? else {
        return Err(ApiError::new(
            Code::NotFound,
            format!("there is no state of {name} with {}", of.attributes),
        ));
    };
    let version = found.version;
    let state = RawValue::from_string(found.state)
        .map_err(|_| ApiError::new(Code::ConsistencyError, "what is stored as a state is not JSON"))?;
    Ok(([etag(version)], Json(Shown { state: &state, version })).into_response())
}

async fn put(
    State(ledger): State<Arc<Ledger>>,
    Path(name): Path<String>,
    given: Given,
    headers: HeaderMap,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let of = keyed(&ledger, &name, &given)?;
    let expected = expected(&headers)?;
    let text = std::str::from_utf8(&body).map_err(|_| ApiError::field("body", "must be UTF-8"))?;
    let put = Put::new(of, text, expected).map_err(|reason| refused("body", reason))?;
    match ledger.states.put(put).await.map_err(unavailable)? {
        Outcome::Done { version } => Ok(([etag(version)], Json(json!({"version": version}))).into_response()),
        Outcome::Stale { version } => Err(states::stale(version)),
    }
}

fn etag(version: i64) -> (header::HeaderName, String) {
    (header::ETAG, format!("\"{version}\""))
}

fn keyed(ledger: &Ledger, name: &str, given: &Given) -> Result<Keyed, ApiError> {
    let types = ledger.types.now();
    let kind = types.states.get(name).ok_or_else(|| unknown_type("type", name, types.states.keys()))?;
    Keyed::from_query(kind, &given.0)
}

/// The error for a state that is not taken; `field`: where it stands.
pub(super) fn refused(field: &str, reason: Refused) -> ApiError {
    match reason {
        Refused::TooDeep => ApiError::field(field, "is nested deeper than 32 levels"),
        Refused::Malformed(reason) => ApiError::field(field, reason),
    }
}

/// The version that must be there: the one that `If-Match` names, or none (0) by `If-None-Match: *`.
fn expected(headers: &HeaderMap) -> Result<Option<i64>, ApiError> {
    if let Some(value) = single(headers, &header::IF_NONE_MATCH, "must be *, or left out")? {
        if headers.contains_key(header::IF_MATCH) {
            return Err(ApiError::field("If-None-Match", "is of no use beside If-Match"));
        }
        return match value {
            "*" => Ok(Some(0)),
            _ => {
                Err(ApiError::field("If-None-Match", "must be *; to replace a version, name it in If-Match"))
            }
        };
    }
    let allowed = "must be one version (0: none yet), such as \"3\"";
    let Some(value) = single(headers, &header::IF_MATCH, allowed)? else { return Ok(None) };
    // A proxy that compresses answers makes weak tags of ours. They name the same version: a state is one text for all.
    let tag = value.strip_prefix("W/").filter(|tag| tag.starts_with('"')).unwrap_or(value);
    let digits = tag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(tag);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let version = digits.parse().ok().filter(|_| is_number);
    version.map(Some).ok_or_else(|| ApiError::field("If-Match", allowed))
}

/// The value of a header that may be given once.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName, allowed: &str) -> Result<Option<&'h str>, ApiError> {
    let mut given = headers.get_all(name).iter();
    let Some(value) = given.next() else { return Ok(None) };
    let value = value.to_str().ok().filter(|_| given.next().is_none()).map(str::trim);
    let shown = if *name == header::IF_MATCH { "If-Match" } else { "If-None-Match" };
    value.map(Some).ok_or_else(|| ApiError::field(shown, allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(values: &[&str]) -> Result<Option<i64>, ()> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::IF_MATCH, value.parse().unwrap());
        }
        expected(&headers).map_err(drop)
    }

    #[test]
    fn if_match_is_a_version_quoted_or_not() {
        assert_eq!(version(&[]), Ok(None));
        assert_eq!(version(&["7"]), Ok(Some(7)));
        assert_eq!(version(&["\"0\""]), Ok(Some(0)));
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
            assert_eq!(version(&[bad]), Err(()), "{bad}");
        }
        assert_eq!(version(&["1", "1"]), Err(()));
        assert_eq!(version(&["W/\"3\""]), Ok(Some(3)), "as a proxy makes of ours");
    }

    #[test]
    fn if_none_match_is_there_must_be_none() {
        let of = |values: &[(HeaderName, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in values {
                headers.append(name, value.parse().unwrap());
            }
            expected(&headers).map_err(drop)
        };
        let none_match = header::IF_NONE_MATCH;
        assert_eq!(of(&[(none_match.clone(), "*")]), Ok(Some(0)));
        assert_eq!(of(&[(none_match.clone(), "\"3\"")]), Err(()));
        assert_eq!(of(&[(none_match.clone(), "*"), (none_match.clone(), "*")]), Err(()));
        assert_eq!(of(&[(none_match, "*"), (header::IF_MATCH, "0")]), Err(()));
    }
}
