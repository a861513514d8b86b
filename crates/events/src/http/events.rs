//! `POST /api/v1/events` and `GET /api/v1/events`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use serving::body::{self, JsonBody};
use serving::caller::Caller;
use serving::compute;
use serving::error::{ApiError, ErrorCode, control_database_error};
use serving::numbers::check_exact_numbers;
use serving::query::DecodedQuery;

use super::caller::resolve_author;
use super::{EventApiState, filter};
use crate::configs::check_identifier;
use crate::params::{MAX_PARAMS_BYTES, check_storable};
use crate::{EventCause, EventId, EventParams, EventWriteOutcome, NewEvent};

/// Maximum events per batch request.
const MAX_EVENTS_PER_BATCH: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PostEventRequest {
    name: String,
    #[serde(default, deserialize_with = "serving::body::or_default")]
    params: EventParams,
    #[serde(default)]
    event_key: Option<String>,
    #[serde(default)]
    author: Option<String>,
}

pub(super) async fn post_events(
    State(state): State<EventApiState>,
    caller: Caller,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let single = !body.trim_ascii_start().starts_with(b"[");
    let new =
        compute::parse_by_size(body.len(), move || parse_events(&body, single, &caller)).await?;
    let written = state.writer.write(new).await.map_err(control_database_error)?;
    match written {
        EventWriteOutcome::Conflict { index: n, id } => {
            let field = field_path(single, n, "event_key");
            let message = format!("{field}: an event with other content has this key");
            Err(ApiError::new(ErrorCode::Conflict, message)
                .with_arg("field", field)
                .with_arg("_id", id.to_string()))
        }
        EventWriteOutcome::Events(ids) if single => Ok(single_event_response(&ids).into_response()),
        EventWriteOutcome::Events(ids) => {
            let ids: Vec<Value> =
                ids.iter().map(|(id, _)| json!({"_id": id.to_string()})).collect();
            Ok((StatusCode::CREATED, Json(Value::from(ids))).into_response())
        }
    }
}

fn parse_events(body: &[u8], single: bool, caller: &Caller) -> Result<Vec<NewEvent>, ApiError> {
    let inputs = if single { vec![body::parse_object(body)?] } else { parse_batch(body)? };
    check_exact_numbers(body)?;
    let new = inputs.into_iter().enumerate();
    new.map(|(n, input)| validate_event(input, caller, |field| field_path(single, n, field)))
        .collect()
}

fn field_path(single: bool, index: usize, field: &str) -> String {
    if single { field.to_owned() } else { format!("[{index}].{field}") }
}

fn single_event_response(ids: &[(EventId, bool)]) -> (StatusCode, Json<Value>) {
    let (id, new) = ids.first().copied().unwrap_or((EventId(0), false));
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    (status, Json(json!({"_id": id.to_string()})))
}

fn parse_batch(body: &[u8]) -> Result<Vec<PostEventRequest>, ApiError> {
    let text =
        std::str::from_utf8(body).map_err(|_| ApiError::invalid_field("body", "must be UTF-8"))?;
    let mut plain = serde_json::Deserializer::from_str(text);
    let inputs: Vec<PostEventRequest> = match body::objects(&mut plain) {
        Ok(inputs) => inputs,
        // Parses again with path tracking, which is slower, to locate the error.
        Err(_) => return Err(batch_parse_error(text)),
    };
    plain
        .end()
        .map_err(|_| ApiError::invalid_field("body", "there is something after the JSON value"))?;
    if inputs.len() > MAX_EVENTS_PER_BATCH {
        return Err(ApiError::new(
            ErrorCode::TooLarge,
            format!("the body has more than {MAX_EVENTS_PER_BATCH} events"),
        ));
    }
    Ok(inputs)
}

fn batch_parse_error(text: &str) -> ApiError {
    let mut track = serde_path_to_error::Track::new();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read: serde_json::Result<Vec<PostEventRequest>> =
        body::objects(serde_path_to_error::Deserializer::new(&mut deserializer, &mut track));
    let reason = read.err().map(|error| error.to_string()).unwrap_or_default();
    let path = track.path().to_string();
    ApiError::invalid_field(
        if path == "." || path == "?" { "body".to_owned() } else { path },
        reason,
    )
}

fn validate_event(
    input: PostEventRequest,
    caller: &Caller,
    field: impl Fn(&str) -> String,
) -> Result<NewEvent, ApiError> {
    check_identifier(&input.name)
        .map_err(|reason| ApiError::invalid_field(field("name"), reason))?;
    check_params(&input.params, &field("params"))?;
    if let Some(key) = &input.event_key {
        check_identifier(key)
            .map_err(|reason| ApiError::invalid_field(field("event_key"), reason))?;
    }
    let author = resolve_author(caller, input.author.as_deref())?;
    Ok(NewEvent {
        name: input.name,
        params: input.params,
        author,
        key: input.event_key,
        cause: EventCause::default(),
    })
}

/// Rejects params that cannot be stored.
pub(super) fn check_params(params: &EventParams, field: &str) -> Result<(), ApiError> {
    check_storable(params).map_err(|reason| ApiError::invalid_field(field, reason))?;
    if crate::params::params_bytes(params) > MAX_PARAMS_BYTES {
        let message = format!("{field}: has more than {} KiB", MAX_PARAMS_BYTES >> 10);
        return Err(ApiError::new(ErrorCode::TooLarge, message).with_arg("field", field));
    }
    Ok(())
}

pub(super) async fn list_events(
    State(state): State<EventApiState>,
    DecodedQuery(pairs): DecodedQuery<Vec<(String, String)>>,
) -> Result<Json<Value>, ApiError> {
    let query = filter::parse_query(pairs)?;
    let listed =
        filter::query_events(&state.events.pool, query).await.map_err(control_database_error)?;
    let Some((events, total)) = listed else {
        let message =
            "the query would look at too many events: narrow it with name and time_created__gt";
        return Err(ApiError::invalid_field("time_created__gt", message));
    };
    let mut answer =
        json!({"result": events.iter().map(crate::Event::to_json).collect::<Vec<_>>()});
    if let Some(total) = total {
        answer["total"] = total.into();
    }
    Ok(Json(answer))
}
