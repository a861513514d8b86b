//! `POST /v1/batch`, and `POST /v1/events` under a lock: one shard, one transaction, all or
//! nothing.

use std::borrow::Cow;
use std::sync::Arc;

use access::Scope;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use serving::error::{ApiError, ErrorCode};
use uuid::Uuid;

use super::events::{build_event_results, check_events, refusal_error};
use super::reads::shard_error;
use super::states::invalid_state_error;
use super::type_access::check_type_access;
use crate::Ledger;
use crate::attributes::LedgerKey;
use crate::batch::{LedgerBatch, LedgerBatchOutcome, lock_ended_error};
use crate::events::{
    LedgerEventInput, LedgerEventOutcome, LedgerEventStatus, RawAttributes, unknown_type_error,
};
use crate::locks::lock_prefix;
use crate::states::{self, StateWrite};
use crate::types::LedgerTypeCatalogue;
use serving::body::{self, JsonBody};
use serving::caller::Caller;
use serving::query::NoQueryParameters;

/// Maximum number of states in a call.
const MAX_STATES_PER_BATCH: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LedgerBatchRequest<'a> {
    #[serde(borrow, default, deserialize_with = "body::guard")]
    lock_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "body::objects_or_none")]
    events: Vec<LedgerEventInput<'a>>,
    #[serde(borrow, default, deserialize_with = "body::objects_or_none")]
    states: Vec<StateInput<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StateInput<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    attributes: RawAttributes<'a>,
    #[serde(borrow)]
    state: &'a RawValue,
    #[serde(default, deserialize_with = "body::guard")]
    expected_version: Option<i64>,
}

impl StateInput<'_> {
    fn into_state_write(
        self,
        types: &LedgerTypeCatalogue,
        place: &str,
    ) -> Result<StateWrite, ApiError> {
        let kind = types.states.get(&*self.kind);
        let kind = kind.ok_or_else(|| {
            unknown_type_error(format!("{place}.type"), &self.kind, types.states.keys())
        })?;
        let target = LedgerKey::from_json(kind, &self.attributes, &format!("{place}.attributes"))?;
        if self.expected_version.is_some_and(|version| version < 0) {
            let reason = "must be a version, or 0 if there must be no such state";
            return Err(ApiError::invalid_field(format!("{place}.expected_version"), reason));
        }
        StateWrite::new(target, self.state.get(), self.expected_version)
            .map_err(|reason| invalid_state_error(&format!("{place}.state"), reason))
    }
}

pub(super) async fn post_batch(
    State(ledger): State<Arc<Ledger>>,
    caller: Caller,
    NoQueryParameters: NoQueryParameters,
    JsonBody(body): JsonBody,
) -> Response {
    let parsed = body::parse_object::<LedgerBatchRequest<'_>>(&body)
        .and_then(|request| check_batch(&ledger, &caller, request));
    match parsed {
        Ok(batch) => execute_batch(&ledger, batch, true).await,
        Err(error) => error.into_response(),
    }
}

fn check_batch(
    ledger: &Ledger,
    caller: &Caller,
    request: LedgerBatchRequest<'_>,
) -> Result<LedgerBatch, ApiError> {
    if request.states.len() > MAX_STATES_PER_BATCH {
        return Err(ApiError::invalid_field(
            "states",
            format!("at most {MAX_STATES_PER_BATCH} are allowed in a call"),
        ));
    }
    let lock = request.lock_id.as_deref().map(parse_lock_id).transpose()?;
    let types = ledger.types.current();
    for (n, state) in request.states.iter().enumerate() {
        let is_known = types.states.contains_key(&*state.kind);
        let field = || format!("states[{n}].type");
        check_type_access(caller, Scope::LedgerWrite, field, &state.kind, is_known)?;
    }
    let events = check_events(ledger, caller, request.events)?;
    let states = request.states.into_iter().enumerate();
    let states = states.map(|(n, state)| state.into_state_write(&types, &format!("states[{n}]")));
    let states: Vec<StateWrite> = states.collect::<Result<_, _>>()?;
    Ok(LedgerBatch { lock_id: lock, events, states })
}

/// Parses a lock id as returned with a grant.
pub(super) fn parse_lock_id(text: &str) -> Result<Uuid, ApiError> {
    text.parse().map_err(|_| ApiError::invalid_field("lock_id", "must be the lock_id of a grant"))
}

/// Executes a batch and renders the response; `with_states` adds the states' versions.
pub(super) async fn execute_batch(
    ledger: &Ledger,
    batch: LedgerBatch,
    with_states: bool,
) -> Response {
    let ids: Vec<String> = batch.events.iter().map(|event| event.event_id.clone()).collect();
    let shard = match ledger.find_common_shard(list_shard_prefixes(&batch)) {
        Ok(shard) => shard.unwrap_or(0),
        Err(error) => {
            return shard_mismatch_error(ledger, batch.lock_id, error).await.into_response();
        }
    };
    let done = match ledger.acquire_event_permit(ids.len() + batch.states.len()) {
        Ok(_admitted) => ledger.write_batch(shard, batch).await,
        Err(error) => return error.into_response(),
    };
    match done {
        Ok(outcome) => render_batch_outcome(ledger, shard, &ids, outcome, with_states),
        Err(error) if error.is_temporary() => {
            shard_error(error);
            let statuses = vec![LedgerEventStatus::Unavailable; ids.len()];
            refusal_response(ledger, &ids, &build_outcomes(statuses, shard))
        }
        Err(error) => shard_error(error).into_response(),
    }
}

/// Renders the outcome of a batch on the shard at index `shard`.
fn render_batch_outcome(
    ledger: &Ledger,
    shard: usize,
    ids: &[String],
    outcome: LedgerBatchOutcome,
    with_states: bool,
) -> Response {
    match outcome {
        LedgerBatchOutcome::Written { events, versions } => {
            let outcomes = build_outcomes(events, shard);
            let mut answer = json!({"results": build_event_results(ledger, ids, &outcomes)});
            if with_states {
                let versions: Vec<_> =
                    versions.into_iter().map(|version| json!({"version": version})).collect();
                answer["states"] = versions.into();
            }
            Json(answer).into_response()
        }
        LedgerBatchOutcome::Conflict { mut events } => {
            // Nothing was written, so events that would have been created are reported as not
            // written.
            for status in &mut events {
                if *status == LedgerEventStatus::Created {
                    *status = LedgerEventStatus::NotWritten;
                }
            }
            refusal_response(ledger, ids, &build_outcomes(events, shard))
        }
        LedgerBatchOutcome::Stale { state_index: place, version } => {
            states::stale_state_error(version)
                .with_arg("field", format!("states[{place}].expected_version"))
                .into_response()
        }
        LedgerBatchOutcome::LockEnded => lock_ended_error().into_response(),
    }
}

/// Outcomes of events that all belong to one shard.
fn build_outcomes(statuses: Vec<LedgerEventStatus>, shard_index: usize) -> Vec<LedgerEventOutcome> {
    statuses.into_iter().map(|status| LedgerEventOutcome { status, shard_index }).collect()
}

/// Error for parts on different shards. An unknown lock id belongs to no shard and is reported as
/// ended.
async fn shard_mismatch_error(ledger: &Ledger, lock: Option<Uuid>, error: ApiError) -> ApiError {
    let Some(lock) = lock else { return error };
    match ledger.locks.get_lock(lock).await {
        Ok(None) => lock_ended_error(),
        _ => error,
    }
}

fn refusal_response(ledger: &Ledger, ids: &[String], written: &[LedgerEventOutcome]) -> Response {
    let refusal = refusal_error(ids, written).unwrap_or_else(|| {
        ApiError::new(
            ErrorCode::Unavailable,
            "the shard does not answer; repeating the call is safe",
        )
    });
    refusal.with_member("results", json!(build_event_results(ledger, ids, written))).into_response()
}

/// Shard prefixes of everything that must be on one shard, with the request field.
fn list_shard_prefixes(batch: &LedgerBatch) -> Vec<(String, u64)> {
    let mut prefixes = Vec::with_capacity(1 + batch.events.len() + batch.states.len());
    if let Some(lock_id) = batch.lock_id {
        prefixes.push(("lock_id".to_owned(), lock_prefix(lock_id)));
    }
    for (n, event) in batch.events.iter().enumerate() {
        prefixes.push((format!("events[{n}]"), event.shard_hash.hash_prefix()));
    }
    for (n, put) in batch.states.iter().enumerate() {
        prefixes.push((format!("states[{n}]"), put.target.shard_hash.hash_prefix()));
    }
    prefixes
}
