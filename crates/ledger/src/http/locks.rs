//! `POST /v1/locks`, and `PATCH`, `DELETE` and `GET /v1/locks/{id}`.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use serving::error::{ApiError, Code};
use serving::path::Path;
use serving::query::NoQuery;
use uuid::Uuid;

use super::event::not_known_yet;
use super::reads::unavailable;
use crate::Ledger;
use crate::attributes::{Keyed, shown};
use crate::events::{Attributes, unknown_type};
use crate::locks::{Grant, Held, Holder, Refusal, Wanted};
use crate::moment;
use crate::sharding::parse_canonical;
use crate::types::Catalogue;
use serving::body::{self, JsonBody};

/// Longest `owner` and `request_id`, in bytes.
const LONGEST_NAME: usize = 256;
/// Milliseconds of `ttl_seconds`.
const TTL: RangeInclusive<u64> = 1..=86_400_000;
/// Milliseconds of `wait_seconds`.
const WAIT: RangeInclusive<u64> = 0..=300_000;

pub(super) fn routes() -> Router<Arc<Ledger>> {
    Router::new()
        .route("/v1/locks", post(acquire))
        .route("/v1/locks/{id}", get(look).patch(extend).delete(release))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    attributes: Attributes<'a>,
    mode: Mode,
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
enum Mode {
    Exclusive,
    Shared,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Extension<'a> {
    #[serde(borrow)]
    ttl_seconds: &'a RawValue,
}

impl Request<'_> {
    fn check(self, types: &Catalogue) -> Result<Wanted, ApiError> {
        let Some(kind) = types.locks.get(&*self.kind) else {
            return Err(unknown_type("type", &self.kind, types.locks.keys()));
        };
        let name = |field: &str, name: Option<String>| match name {
            Some(name) if name.is_empty() || name.len() > LONGEST_NAME || name.contains('\0') => {
                Err(ApiError::field(field, "must have 1 to 256 bytes and no NUL"))
            }
            name => Ok(name),
        };
        Ok(Wanted {
            of: Keyed::from_json(kind, &self.attributes, "attributes")?,
            exclusive: matches!(self.mode, Mode::Exclusive),
            ttl: seconds("ttl_seconds", self.ttl_seconds, TTL)?,
            wait: self.wait_seconds.map_or(Ok(Duration::ZERO), |raw| seconds("wait_seconds", raw, WAIT))?,
            owner: name("owner", self.owner)?,
            request_id: name("request_id", self.request_id)?,
        })
    }
}

/// A number of seconds, to the millisecond.
fn seconds(field: &str, raw: &RawValue, allowed: RangeInclusive<u64>) -> Result<Duration, ApiError> {
    // A string, a word or a list is no float. Negative and too large ones are cut to the ends of u64.
    let given =
        raw.get().parse::<f64>().ok().map(|seconds| ((seconds * 1000.0).round(), seconds.is_sign_negative()));
    let milliseconds = given.filter(|(_, negative)| !negative).map(|(milliseconds, _)| milliseconds as u64);
    milliseconds.filter(|given| allowed.contains(given)).map(Duration::from_millis).ok_or_else(|| {
        let most = allowed.end() / 1000;
        let least = if *allowed.start() == 0 { "0" } else { "0.001" };
        ApiError::field(field, format!("must be a number of seconds from {least} to {most}"))
    })
}

async fn acquire(
    State(ledger): State<Arc<Ledger>>,
    NoQuery: NoQuery,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let wanted = body::parse::<Request<'_>>(&body)?.check(&ledger.types.now())?;
    drop(body);
    let grant = ledger.locks.acquire(wanted).await.map_err(refused)?;
    Ok((StatusCode::CREATED, Json(granted(&grant))))
}

async fn extend(
    State(ledger): State<Arc<Ledger>>,
    Path(id): Path<String>,
    NoQuery: NoQuery,
    JsonBody(body): JsonBody,
) -> Result<Json<Value>, ApiError> {
    let ttl = seconds("ttl_seconds", body::parse::<Extension<'_>>(&body)?.ttl_seconds, TTL)?;
    let grant = ledger.locks.extend(lock_id(&id)?, ttl).await.map_err(refused)?;
    Ok(Json(granted(&grant)))
}

async fn release(
    State(ledger): State<Arc<Ledger>>,
    Path(id): Path<String>,
    NoQuery: NoQuery,
) -> Result<StatusCode, ApiError> {
    ledger.locks.release(lock_id(&id)?).await.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn look(
    State(ledger): State<Arc<Ledger>>,
    Path(id): Path<String>,
    NoQuery: NoQuery,
) -> Result<Json<Value>, ApiError> {
    let held = ledger.locks.look(lock_id(&id)?).await.map_err(unavailable)?;
    let held = held.ok_or_else(|| refused(Refusal::Unknown))?;
    if !held.alive {
        return Err(refused(Refusal::Ended).arg("expires_at", moment::show(held.expires_at)));
    }
    show(&held, &ledger.types.now()).map(Json)
}

/// Ids are ours: what cannot be one is unknown like any other.
fn lock_id(text: &str) -> Result<Uuid, ApiError> {
    text.parse().map_err(|_| refused(Refusal::Unknown))
}

fn granted(grant: &Grant) -> Value {
    json!({
        "lock_id": grant.lock_id.to_string(), "fencing_token": grant.token, "expires_at": moment::show(grant.expires_at),
    })
}

fn mode(exclusive: bool) -> &'static str {
    if exclusive { "exclusive" } else { "shared" }
}

/// Without attributes if its type is gone.
fn show(held: &Held, types: &Catalogue) -> Result<Value, ApiError> {
    let given = parse_canonical(&held.attributes);
    let attributes = types.locks.get(&held.type_name).map(|kind| shown(&kind.attributes, &given));
    if attributes == Some(None) {
        return Err(not_known_yet("the lock"));
    }
    Ok(json!({
        "lock_id": held.lock_id.to_string(),
        "type": held.type_name,
        "attributes": attributes.flatten(),
        "mode": mode(held.exclusive),
        "owner": held.owner,
        "fencing_token": held.token,
        "expires_at": moment::show(held.expires_at),
    }))
}

fn locked(holder: Option<Holder>) -> ApiError {
    let Some(Holder { owner, exclusive, expires_at }) = holder else {
        return ApiError::new(Code::Locked, "others are being granted the lock at this moment; try again");
    };
    let (who, until) = (owner.as_deref().unwrap_or("another"), moment::show(expires_at));
    ApiError::new(Code::Locked, format!("held ({}) by {who} until {until}", mode(exclusive)))
        .arg("owner", owner)
        .arg("mode", mode(exclusive))
        .arg("expires_at", until)
}

fn refused(refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::Locked(holder) => locked(holder),
        Refusal::Ended => ApiError::new(Code::Stale, "the lock has ended; a new one has a new lock_id"),
        Refusal::Unknown => ApiError::new(Code::NotFound, "there is no such lock, or it ended long ago"),
        Refusal::OtherRequest => ApiError::new(
            Code::Conflict,
            "request_id: another request for this lock had it, with other mode, ttl_seconds or owner",
        ),
        Refusal::TooMany => ApiError::new(Code::Overloaded, "too many wait for locks; try again later"),
        Refusal::Stopping => {
            ApiError::new(Code::Unavailable, "this server is stopping: ask another, or again soon")
        }
        Refusal::Busy => ApiError::new(Code::Unavailable, "the lock is still being written under; try again"),
        Refusal::Database(error) => unavailable(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_numbers_to_the_millisecond() {
        let parse = |token: &str, allowed| {
            let raw: Box<RawValue> = serde_json::from_str(token).unwrap();
            seconds("field", &raw, allowed).ok().map(|duration| duration.as_millis())
        };
        for (token, milliseconds) in
            [("1", 1000), ("0.001", 1), ("1.5", 1500), ("2e2", 200_000), ("86400", 86_400_000), ("0.0006", 1)]
        {
            assert_eq!(parse(token, TTL), Some(milliseconds), "{token}");
        }
        for token in ["0", "0.0001", "-1", "-0", "86400.001", "1e999", "\"1\"", "true", "null", "[1]", "{}"] {
            assert_eq!(parse(token, TTL), None, "{token}");
        }
        assert_eq!(
            (parse("0", WAIT), parse("300", WAIT), parse("301", WAIT)),
            (Some(0), Some(300_000), None)
        );
    }
}
