//! `POST /v1/events`.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serving::error::{ApiError, Code};

use super::batch::{carry_out, lock_id};
use crate::Ledger;
use crate::batch::Batch;
use crate::events::{Event, Input, Status, Written};
use serving::body::{self, JsonBody};
use serving::query::NoQuery;

/// Most events in a call.
const MOST_EVENTS: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request<'a> {
    #[serde(borrow, deserialize_with = "body::objects")]
    events: Vec<Input<'a>>,
    #[serde(borrow, default, deserialize_with = "body::guard")]
    lock_id: Option<Cow<'a, str>>,
}

/// What is answered when every event is there.
#[derive(Serialize)]
struct Answer<'a> {
    results: Vec<EventResult<'a>>,
}

/// One event's outcome, as it is answered.
#[derive(Serialize)]
pub(super) struct EventResult<'a> {
    event_id: &'a str,
    status: &'static str,
    shard: &'a str,
}

/// Checks a call's events.
pub(super) fn check(ledger: &Ledger, inputs: Vec<Input<'_>>) -> Result<Vec<Event>, ApiError> {
    if inputs.len() > MOST_EVENTS {
        let reason = format!("holds {} events; at most {MOST_EVENTS} are allowed in a call", inputs.len());
        return Err(ApiError::field("events", reason));
    }
    let (types, most) = (ledger.types.now(), ledger.max_info_bytes);
    let check =
        |(n, input): (usize, Input<'_>)| input.check(&types, most, &|name| format!("events[{n}].{name}"));
    inputs.into_iter().enumerate().map(check).collect()
}

pub(super) async fn write(
    State(ledger): State<Arc<Ledger>>,
    NoQuery: NoQuery,
    JsonBody(body): JsonBody,
) -> Response {
    let checked = body::parse::<Request<'_>>(&body).and_then(|request| {
        let lock = request.lock_id.as_deref().map(lock_id).transpose()?;
        Ok((lock, check(&ledger, request.events)?))
    });
    let (lock, events) = match checked {
        Ok(checked) => checked,
        Err(error) => return error.into_response(),
    };
    if lock.is_some() {
        return carry_out(&ledger, Batch { lock, events, states: Vec::new() }, false).await;
    }
    let ids: Vec<String> = events.iter().map(|event| event.event_id.clone()).collect();
    drop(body);
    let written = match ledger.admit(events.len()) {
        Ok(_admitted) => ledger.writer.write(events).await,
        Err(error) => return error.into_response(),
    };
    let results = results(&ledger, &ids, &written);
    match refusal(&ids, &written) {
        None => Json(Answer { results }).into_response(),
        Some(error) => error.with("results", serde_json::json!(results)).into_response(),
    }
}

/// The outcomes as they are answered.
pub(super) fn results<'a>(
    ledger: &'a Ledger,
    ids: &'a [String],
    written: &[Written],
) -> Vec<EventResult<'a>> {
    let shards = ledger.shards.all();
    let result = |(id, written): (&'a String, &Written)| EventResult {
        event_id: id,
        status: written.status.name(),
        shard: &shards[written.shard].name,
    };
    ids.iter().zip(written).map(result).collect()
}

/// The error that a call's outcomes amount to. A conflict outweighs a shard that is away: it stays.
pub(super) fn refusal(ids: &[String], written: &[Written]) -> Option<ApiError> {
    let first = |status| written.iter().position(|written| written.status == status).and_then(|n| ids.get(n));
    if let Some(id) = first(Status::Conflict) {
        let message =
            format!("event `{id}` is there with other content; nothing of its shard's part was written");
        return Some(ApiError::new(Code::Conflict, message));
    }
    if let Some(id) = first(Status::Contradiction) {
        let message = format!(
            "event `{id}` is twice in this call, with different content; nothing of its shard's part was written"
        );
        return Some(ApiError::new(Code::Conflict, message));
    }
    let id = first(Status::Unavailable)?;
    let message = format!("the shard of event `{id}` does not answer; repeating the whole call is safe");
    Some(ApiError::new(Code::Unavailable, message))
}
