//! `POST /v1/batch`, and `POST /v1/events` under a lock: everything on one shard, in one transaction, or nothing.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use serving::error::{ApiError, Code};
use uuid::Uuid;

use super::events::{check, refusal, results};
use super::reads::unavailable;
use super::states::refused;
use crate::Ledger;
use crate::attributes::Keyed;
use crate::batch::{Batch, Done, lock_gone};
use crate::events::{Attributes, Event, Input, Status, Written, unknown_type};
use crate::locks::lock_prefix;
use crate::states::{self, Put};
use crate::types::Catalogue;
use serving::body::{self, JsonBody};
use serving::query::NoQuery;

/// Most states in a call.
const MOST_STATES: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request<'a> {
    #[serde(borrow, default, deserialize_with = "body::guard")]
    lock_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "body::objects_or_none")]
    events: Vec<Input<'a>>,
    #[serde(borrow, default, deserialize_with = "body::objects_or_none")]
    states: Vec<StateInput<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StateInput<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    attributes: Attributes<'a>,
    #[serde(borrow)]
    state: &'a RawValue,
    #[serde(default, deserialize_with = "body::guard")]
    expected_version: Option<i64>,
}

impl StateInput<'_> {
    fn check(self, types: &Catalogue, place: &str) -> Result<Put, ApiError> {
        let kind = types.states.get(&*self.kind);
        let kind =
            kind.ok_or_else(|| unknown_type(format!("{place}.type"), &self.kind, types.states.keys()))?;
        let of = Keyed::from_json(kind, &self.attributes, &format!("{place}.attributes"))?;
        if self.expected_version.is_some_and(|version| version < 0) {
            let reason = "must be a version, or 0 if there must be no such state";
            return Err(ApiError::field(format!("{place}.expected_version"), reason));
        }
        Put::new(of, self.state.get(), self.expected_version)
            .map_err(|reason| refused(&format!("{place}.state"), reason))
    }
}

pub(super) async fn write(
    State(ledger): State<Arc<Ledger>>,
    NoQuery: NoQuery,
    JsonBody(body): JsonBody,
) -> Response {
    let parsed = body::parse::<Request<'_>>(&body).and_then(|request| checked(&ledger, request));
    match parsed {
        Ok(batch) => carry_out(&ledger, batch, true).await,
        Err(error) => error.into_response(),
    }
}

fn checked(ledger: &Ledger, request: Request<'_>) -> Result<Batch, ApiError> {
    if request.states.len() > MOST_STATES {
        return Err(ApiError::field("states", format!("at most {MOST_STATES} are allowed in a call")));
    }
    let lock = request.lock_id.as_deref().map(lock_id).transpose()?;
    let events = check(ledger, request.events)?;
    let types = ledger.types.now();
    let states = request.states.into_iter().enumerate();
    let states = states.map(|(n, state)| state.check(&types, &format!("states[{n}]")));
    Ok(Batch { lock, events, states: states.collect::<Result<_, _>>()? })
}

/// A lock's id as it was granted.
pub(super) fn lock_id(text: &str) -> Result<Uuid, ApiError> {
    text.parse().map_err(|_| ApiError::field("lock_id", "must be the lock_id of a grant"))
}

/// Carries a batch out and shapes the answer; `with_states`: it tells the states' versions, too.
pub(super) async fn carry_out(ledger: &Ledger, batch: Batch, with_states: bool) -> Response {
    let ids: Vec<String> = batch.events.iter().map(|event| event.event_id.clone()).collect();
    let shard = match ledger.one_shard(parts(&batch)) {
        Ok(shard) => shard.unwrap_or(0),
        Err(error) => return elsewhere(ledger, batch.lock, error).await.into_response(),
    };
    let done = match ledger.admit(ids.len() + batch.states.len()) {
        Ok(_admitted) => ledger.write_batch(shard, batch).await,
        Err(error) => return error.into_response(),
    };
    let written = |events: Vec<Status>| -> Vec<Written> {
        events.into_iter().map(|status| Written { status, shard }).collect()
    };
    match done {
        Ok(Done::Written { events, versions }) => {
            let mut answer = json!({"results": results(ledger, &ids, &written(events))});
            if with_states {
                let versions: Vec<_> =
                    versions.into_iter().map(|version| json!({"version": version})).collect();
                answer["states"] = versions.into();
            }
            Json(answer).into_response()
        }
        Ok(Done::Conflict { events }) => {
            // Nothing was written: what would have been is not.
            let unwritten = |status| if status == Status::Created { Status::NotWritten } else { status };
            answer_refused(ledger, &ids, &written(events.into_iter().map(unwritten).collect()))
        }
        Ok(Done::Stale { place, version }) => {
            states::stale(version).arg("field", format!("states[{place}].expected_version")).into_response()
        }
        Ok(Done::LockGone) => lock_gone().into_response(),
        Err(error) if error.is_temporary() => {
            unavailable(error);
            answer_refused(ledger, &ids, &written(vec![Status::Unavailable; ids.len()]))
        }
        Err(error) => unavailable(error).into_response(),
    }
}

/// The error for parts that lie on different shards; an id that no lock has lies nowhere.
async fn elsewhere(ledger: &Ledger, lock: Option<Uuid>, error: ApiError) -> ApiError {
    let Some(lock) = lock else { return error };
    match ledger.locks.look(lock).await {
        Ok(None) => lock_gone(),
        _ => error,
    }
}

fn answer_refused(ledger: &Ledger, ids: &[String], written: &[Written]) -> Response {
    let refusal = refusal(ids, written).unwrap_or_else(|| {
        ApiError::new(Code::Unavailable, "the shard does not answer; repeating the call is safe")
    });
    refusal.with("results", json!(results(ledger, ids, written))).into_response()
}

/// Everything that must lie on one shard, with the field it came in.
fn parts(batch: &Batch) -> impl Iterator<Item = (String, u64)> {
    let lock = batch.lock.iter().map(|lock| ("lock_id".to_owned(), lock_prefix(*lock)));
    let event = |(n, event): (usize, &Event)| (format!("events[{n}]"), event.hash.prefix());
    let state = |(n, put): (usize, &Put)| (format!("states[{n}]"), put.of.hash.prefix());
    lock.chain(batch.events.iter().enumerate().map(event)).chain(batch.states.iter().enumerate().map(state))
}
