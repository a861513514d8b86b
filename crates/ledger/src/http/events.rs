//! `POST /v1/events`: writing events.

use std::borrow::Cow;
use std::sync::Arc;

use access::Scope;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serving::error::{ApiError, ErrorCode};

use super::batch::{execute_batch, parse_lock_id};
use super::type_access::check_type_access;
use crate::Ledger;
use crate::batch::LedgerBatch;
use crate::events::{LedgerEvent, LedgerEventInput, LedgerEventOutcome, LedgerEventStatus};
use serving::body::{self, JsonBody};
use serving::caller::Caller;
use serving::query::NoQueryParameters;

/// Maximum number of events in a call.
const MAX_EVENTS_PER_REQUEST: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LedgerEventsRequest<'a> {
    #[serde(borrow, deserialize_with = "body::objects")]
    events: Vec<LedgerEventInput<'a>>,
    #[serde(borrow, default, deserialize_with = "body::guard")]
    lock_id: Option<Cow<'a, str>>,
}

/// Success response: every event is stored.
#[derive(Serialize)]
struct LedgerEventsResponse<'a> {
    results: Vec<LedgerEventResult<'a>>,
}

/// Outcome of one event in a response.
#[derive(Serialize)]
pub(super) struct LedgerEventResult<'a> {
    event_id: &'a str,
    status: &'static str,
    shard: &'a str,
}

/// Checks the right to the events of a call, and validates them.
pub(super) fn check_events(
    ledger: &Ledger,
    caller: &Caller,
    inputs: Vec<LedgerEventInput<'_>>,
) -> Result<Vec<LedgerEvent>, ApiError> {
    if inputs.len() > MAX_EVENTS_PER_REQUEST {
        let reason = format!(
            "holds {} events; at most {MAX_EVENTS_PER_REQUEST} are allowed in a call",
            inputs.len()
        );
        return Err(ApiError::invalid_field("events", reason));
    }
    let (types, max_info_bytes) = (ledger.types.current(), ledger.max_info_bytes);
    for (n, input) in inputs.iter().enumerate() {
        let is_known = types.accounts.contains_key(&*input.type_name);
        let field = || format!("events[{n}].type");
        check_type_access(caller, Scope::LedgerWrite, field, &input.type_name, is_known)?;
    }
    let mut events = Vec::with_capacity(inputs.len());
    for (n, input) in inputs.into_iter().enumerate() {
        events.push(
            input.into_checked_event(&types, max_info_bytes, &|name| {
                format!("events[{n}].{name}")
            })?,
        );
    }
    Ok(events)
}

pub(super) async fn post_events(
    State(ledger): State<Arc<Ledger>>,
    caller: Caller,
    NoQueryParameters: NoQueryParameters,
    JsonBody(body): JsonBody,
) -> Response {
    let checked = body::parse_object::<LedgerEventsRequest<'_>>(&body).and_then(|request| {
        let lock = request.lock_id.as_deref().map(parse_lock_id).transpose()?;
        let events = check_events(&ledger, &caller, request.events)?;
        Ok((lock, events))
    });
    let (lock, events) = match checked {
        Ok(checked) => checked,
        Err(error) => return error.into_response(),
    };
    if lock.is_some() {
        return execute_batch(
            &ledger,
            LedgerBatch { lock_id: lock, events, states: Vec::new() },
            false,
        )
        .await;
    }
    let ids: Vec<String> = events.iter().map(|event| event.event_id.clone()).collect();
    drop(body);
    let outcomes = match ledger.acquire_event_permit(events.len()) {
        Ok(_admitted) => ledger.writer.write(events).await,
        Err(error) => return error.into_response(),
    };
    let results = build_event_results(&ledger, &ids, &outcomes);
    match refusal_error(&ids, &outcomes) {
        None => Json(LedgerEventsResponse { results }).into_response(),
        Some(error) => error.with_member("results", serde_json::json!(results)).into_response(),
    }
}

/// Renders the outcomes of a call.
pub(super) fn build_event_results<'a>(
    ledger: &'a Ledger,
    ids: &'a [String],
    outcomes: &[LedgerEventOutcome],
) -> Vec<LedgerEventResult<'a>> {
    let shards = ledger.shards.all();
    let mut results = Vec::with_capacity(ids.len());
    for (event_id, outcome) in ids.iter().zip(outcomes) {
        results.push(LedgerEventResult {
            event_id,
            status: outcome.status.name(),
            shard: &shards[outcome.shard_index].name,
        });
    }
    results
}

/// Error that summarizes a call's outcomes. A conflict takes precedence over an unavailable shard,
/// because it is permanent.
pub(super) fn refusal_error(ids: &[String], outcomes: &[LedgerEventOutcome]) -> Option<ApiError> {
    if let Some(id) = find_first_id(ids, outcomes, LedgerEventStatus::Conflict) {
        let message = format!(
            "event `{id}` is there with other content; nothing of its shard's part was written"
        );
        return Some(ApiError::new(ErrorCode::Conflict, message));
    }
    if let Some(id) = find_first_id(ids, outcomes, LedgerEventStatus::Contradiction) {
        let message = format!(
            "event `{id}` is twice in this call, with different content; nothing of its shard's part was written"
        );
        return Some(ApiError::new(ErrorCode::Conflict, message));
    }
    let id = find_first_id(ids, outcomes, LedgerEventStatus::Unavailable)?;
    let message =
        format!("the shard of event `{id}` does not answer; repeating the whole call is safe");
    Some(ApiError::new(ErrorCode::Unavailable, message))
}

/// Id of the first event with this status.
fn find_first_id<'i>(
    ids: &'i [String],
    outcomes: &[LedgerEventOutcome],
    status: LedgerEventStatus,
) -> Option<&'i String> {
    let n = outcomes.iter().position(|outcome| outcome.status == status)?;
    ids.get(n)
}
