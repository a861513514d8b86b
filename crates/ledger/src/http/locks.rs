//! `POST /v1/locks`, and `PATCH`, `DELETE` and `GET /v1/locks/{id}`.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use access::{RouteAccess, Scope};
use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use serving::caller::Caller;
use serving::error::{ApiError, ErrorCode};
use serving::path::DecodedPath;
use serving::query::NoQueryParameters;
use serving::scoped_router::ScopedRouter;
use uuid::Uuid;

use super::event::type_unavailable_error;
use super::reads::shard_error;
use super::type_access::check_type_access;
use crate::Ledger;
use crate::attributes::{LedgerKey, attributes_to_json};
use crate::events::{RawAttributes, unknown_type_error};
use crate::locks::{LockGrant, LockHolder, LockRefusal, LockRequest, LockRow};
use crate::moment;
use crate::sharding::parse_canonical;
use crate::types::LedgerTypeCatalogue;
use serving::body::{self, JsonBody};

/// Maximum length of `owner` and `request_id`, in bytes.
const MAX_LOCK_NAME_BYTES: usize = 256;
/// Allowed `ttl_seconds`, in milliseconds.
const TTL_MS_RANGE: RangeInclusive<u64> = 1..=86_400_000;
/// Allowed `wait_seconds`, in milliseconds.
const WAIT_MS_RANGE: RangeInclusive<u64> = 0..=300_000;

pub(super) fn build_lock_routes() -> ScopedRouter<Arc<Ledger>> {
    const WRITE_TYPES: RouteAccess = RouteAccess::TypeInBody(Scope::LedgerWrite);
    ScopedRouter::new()
        .post("/v1/locks", WRITE_TYPES, acquire_lock)
        .get("/v1/locks/{id}", RouteAccess::TypeInBody(Scope::LedgerRead), get_lock)
        .patch("/v1/locks/{id}", WRITE_TYPES, extend_lock)
        .delete("/v1/locks/{id}", WRITE_TYPES, release_lock)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LockAcquireRequest<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    attributes: RawAttributes<'a>,
    mode: LockMode,
    #[serde(borrow)]
    ttl_seconds: &'a RawValue,
    #[serde(borrow, default)]
    wait_seconds: Option<&'a RawValue>,
    #[serde(default)]
    owner: Option<String>,
    #[serde(default, deserialize_with = "body::guard")]
    request_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum LockMode {
    Exclusive,
    Shared,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LockExtendRequest<'a> {
    #[serde(borrow)]
    ttl_seconds: &'a RawValue,
}

impl LockAcquireRequest<'_> {
    fn into_lock_request(self, types: &LedgerTypeCatalogue) -> Result<LockRequest, ApiError> {
        let Some(kind) = types.locks.get(&*self.kind) else {
            return Err(unknown_type_error("type", &self.kind, types.locks.keys()));
        };
        Ok(LockRequest {
            target: LedgerKey::from_json(kind, &self.attributes, "attributes")?,
            exclusive: matches!(self.mode, LockMode::Exclusive),
            ttl: parse_seconds("ttl_seconds", self.ttl_seconds, TTL_MS_RANGE)?,
            wait: self.wait_seconds.map_or(Ok(Duration::ZERO), |raw| {
                parse_seconds("wait_seconds", raw, WAIT_MS_RANGE)
            })?,
            owner: check_lock_name("owner", self.owner)?,
            request_id: check_lock_name("request_id", self.request_id)?,
        })
    }
}

fn check_lock_name(field: &str, name: Option<String>) -> Result<Option<String>, ApiError> {
    match name {
        Some(name)
            if name.is_empty() || name.len() > MAX_LOCK_NAME_BYTES || name.contains('\0') =>
        {
            Err(ApiError::invalid_field(field, "must have 1 to 256 bytes and no NUL"))
        }
        name => Ok(name),
    }
}

/// Parses a number of seconds, rounded to milliseconds.
fn parse_seconds(
    field: &str,
    raw: &RawValue,
    allowed: RangeInclusive<u64>,
) -> Result<Duration, ApiError> {
    // JSON strings, literals and arrays do not parse as a float. The cast to u64 saturates.
    let given = raw
        .get()
        .parse::<f64>()
        .ok()
        .map(|seconds| ((seconds * 1000.0).round(), seconds.is_sign_negative()));
    let milliseconds =
        given.filter(|(_, negative)| !negative).map(|(milliseconds, _)| milliseconds as u64);
    milliseconds.filter(|given| allowed.contains(given)).map(Duration::from_millis).ok_or_else(
        || {
            let most = allowed.end() / 1000;
            let least = if *allowed.start() == 0 { "0" } else { "0.001" };
            ApiError::invalid_field(
                field,
                format!("must be a number of seconds from {least} to {most}"),
            )
        },
    )
}

async fn acquire_lock(
    State(ledger): State<Arc<Ledger>>,
    caller: Caller,
    NoQueryParameters: NoQueryParameters,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let (types, request) =
        (ledger.types.current(), body::parse_object::<LockAcquireRequest<'_>>(&body)?);
    let is_known = types.locks.contains_key(&*request.kind);
    let field = || "type".to_owned();
    check_type_access(&caller, Scope::LedgerWrite, field, &request.kind, is_known)?;
    let mut request = request.into_lock_request(&types)?;
    request.owner = caller.resolve_identity("owner", request.owner.as_deref())?;
    drop(body);
    let grant = ledger.locks.acquire(request).await.map_err(refusal_error)?;
    Ok((StatusCode::CREATED, Json(render_grant(&grant))))
}

/// Checks a narrowed scope for the type of a lock.
async fn check_lock_type(
    ledger: &Ledger,
    caller: &Caller,
    scope: Scope,
    lock_id: Uuid,
) -> Result<(), ApiError> {
    if caller.has_scope(scope) {
        return Ok(());
    }
    match ledger.locks.get_lock(lock_id).await.map_err(shard_error)? {
        Some(held) => check_held_type(caller, scope, &held),
        None => Err(refusal_error(LockRefusal::Unknown)),
    }
}

/// Checks a narrowed scope for a held lock. The caller named an id, so it does not learn the type.
fn check_held_type(caller: &Caller, scope: Scope, held: &LockRow) -> Result<(), ApiError> {
    caller.check_account_type(scope, &held.type_name).map_err(|error| ApiError {
        message: format!("this needs the scope {scope} for the type of the lock"),
        ..error
    })
}

async fn extend_lock(
    State(ledger): State<Arc<Ledger>>,
    caller: Caller,
    DecodedPath(id): DecodedPath<String>,
    NoQueryParameters: NoQueryParameters,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let ttl = parse_seconds(
        "ttl_seconds",
        body::parse_object::<LockExtendRequest<'_>>(&body)?.ttl_seconds,
        TTL_MS_RANGE,
    )?;
    let id = parse_known_lock_id(&id)?;
    check_lock_type(&ledger, &caller, Scope::LedgerWrite, id).await?;
    let grant = ledger.locks.extend(id, ttl).await.map_err(refusal_error)?;
    Ok(Json(render_grant(&grant)))
}

async fn release_lock(
    State(ledger): State<Arc<Ledger>>,
    caller: Caller,
    DecodedPath(id): DecodedPath<String>,
    NoQueryParameters: NoQueryParameters,
) -> Result<StatusCode, ApiError> {
    let id = parse_known_lock_id(&id)?;
    check_lock_type(&ledger, &caller, Scope::LedgerWrite, id).await?;
    ledger.locks.release(id).await.map_err(refusal_error)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn get_lock(
    State(ledger): State<Arc<Ledger>>,
    caller: Caller,
    DecodedPath(id): DecodedPath<String>,
    NoQueryParameters: NoQueryParameters,
) -> Result<Json<Value>, ApiError> {
    let held = ledger.locks.get_lock(parse_known_lock_id(&id)?).await.map_err(shard_error)?;
    let held = held.ok_or_else(|| refusal_error(LockRefusal::Unknown))?;
    check_held_type(&caller, Scope::LedgerRead, &held)?;
    if !held.alive {
        return Err(refusal_error(LockRefusal::Ended)
            .with_arg("expires_at", moment::format_moment(held.expires_at)));
    }
    render_lock(&held, &ledger.types.current()).map(Json)
}

/// An id that is not a UUID cannot be ours: it is answered as unknown.
fn parse_known_lock_id(text: &str) -> Result<Uuid, ApiError> {
    text.parse().map_err(|_| refusal_error(LockRefusal::Unknown))
}

fn render_grant(grant: &LockGrant) -> Value {
    json!({
        "lock_id": grant.lock_id.to_string(), "fencing_token": grant.token.get(), "expires_at": moment::format_moment(grant.expires_at),
    })
}

fn mode_name(exclusive: bool) -> &'static str {
    if exclusive { "exclusive" } else { "shared" }
}

/// Without attributes if the lock type was deleted.
fn render_lock(held: &LockRow, types: &LedgerTypeCatalogue) -> Result<Value, ApiError> {
    let given = parse_canonical(&held.attributes);
    let attributes =
        types.locks.get(&held.type_name).map(|kind| attributes_to_json(&kind.attributes, &given));
    if attributes == Some(None) {
        return Err(type_unavailable_error("the lock"));
    }
    Ok(json!({
        "lock_id": held.lock_id.to_string(),
        "type": held.type_name,
        "attributes": attributes.flatten(),
        "mode": mode_name(held.exclusive),
        "owner": held.owner,
        "fencing_token": held.token.get(),
        "expires_at": moment::format_moment(held.expires_at),
    }))
}

fn locked_error(holder: Option<LockHolder>) -> ApiError {
    let Some(LockHolder { owner, exclusive, expires_at }) = holder else {
        return ApiError::new(
            ErrorCode::Locked,
            "others are being granted the lock at this moment; try again",
        );
    };
    let (who, until) = (owner.as_deref().unwrap_or("another"), moment::format_moment(expires_at));
    ApiError::new(
        ErrorCode::Locked,
        format!("held ({}) by {who} until {until}", mode_name(exclusive)),
    )
    .with_arg("owner", owner)
    .with_arg("mode", mode_name(exclusive))
    .with_arg("expires_at", until)
}

fn refusal_error(refusal: LockRefusal) -> ApiError {
    match refusal {
        LockRefusal::Locked(holder) => locked_error(holder),
        LockRefusal::Ended => {
            ApiError::new(ErrorCode::Stale, "the lock has ended; a new one has a new lock_id")
        }
        LockRefusal::Unknown => {
            ApiError::new(ErrorCode::NotFound, "there is no such lock, or it ended long ago")
        }
        LockRefusal::OtherRequest => ApiError::new(
            ErrorCode::Conflict,
            "request_id: another request for this lock had it, with other mode, ttl_seconds or owner",
        ),
        LockRefusal::TooMany => {
            ApiError::new(ErrorCode::Overloaded, "too many wait for locks; try again later")
        }
        LockRefusal::Stopping => ApiError::new(
            ErrorCode::Unavailable,
            "this server is stopping: ask another, or again soon",
        ),
        LockRefusal::Busy => ApiError::new(
            ErrorCode::Unavailable,
            "the lock is still being written under; try again",
        ),
        LockRefusal::Database(error) => shard_error(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_numbers_to_the_millisecond() {
        let parse = |token: &str, allowed| {
            let raw: Box<RawValue> = serde_json::from_str(token).unwrap();
            parse_seconds("field", &raw, allowed).ok().map(|duration| duration.as_millis())
        };
        for (token, milliseconds) in [
            ("1", 1000),
            ("0.001", 1),
            ("1.5", 1500),
            ("2e2", 200_000),
            ("86400", 86_400_000),
            ("0.0006", 1),
        ] {
            assert_eq!(parse(token, TTL_MS_RANGE), Some(milliseconds), "{token}");
        }
        for token in
            ["0", "0.0001", "-1", "-0", "86400.001", "1e999", "\"1\"", "true", "null", "[1]", "{}"]
        {
            assert_eq!(parse(token, TTL_MS_RANGE), None, "{token}");
        }
        assert_eq!(
            (parse("0", WAIT_MS_RANGE), parse("300", WAIT_MS_RANGE), parse("301", WAIT_MS_RANGE)),
            (Some(0), Some(300_000), None)
        );
    }
}
