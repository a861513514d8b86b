//! `POST /api/v1/events` and `GET /api/v1/events`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use serving::body::{self, JsonBody};
use serving::compute;
use serving::error::{ApiError, Code};
use serving::numbers::check_exact;
use serving::query::Query;

use super::caller::Known;
use super::{Desk, filter, unavailable};
use crate::configs::check_word;
use crate::params::{LARGEST, check};
use crate::{Cause, EventId, NewEvent, Params, Written};

/// Most events of a batch.
const MOST: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    name: String,
    #[serde(default, deserialize_with = "serving::body::or_default")]
    params: Params,
    #[serde(default)]
    event_key: Option<String>,
    #[serde(default)]
    author: Option<String>,
}

pub(super) async fn post(
    State(desk): State<Desk>,
    caller: Known,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let single = !body.trim_ascii_start().starts_with(b"[");
    let new = compute::read(body.len(), move || read(&body, single, &caller)).await?;
    let written = desk.writer.write(new).await.map_err(unavailable)?;
    match written {
        Written::Conflict { place: n, id } => {
            let field = place(single, n, "event_key");
            let message = format!("{field}: an event with other content has this key");
            Err(ApiError::new(Code::Conflict, message).arg("field", field).arg("_id", id.to_string()))
        }
        Written::Events(ids) if single => Ok(answer_one(&ids).into_response()),
        Written::Events(ids) => {
            let ids: Vec<Value> = ids.iter().map(|(id, _)| json!({"_id": id.to_string()})).collect();
            Ok((StatusCode::CREATED, Json(Value::from(ids))).into_response())
        }
    }
}

fn read(body: &[u8], single: bool, caller: &Known) -> Result<Vec<NewEvent>, ApiError> {
    let inputs = if single { vec![body::parse(body)?] } else { batch(body)? };
    check_exact(body)?;
    let new = inputs.into_iter().enumerate();
    new.map(|(n, input)| checked(input, caller, |field| place(single, n, field))).collect()
}

fn place(single: bool, n: usize, field: &str) -> String {
    if single { field.to_owned() } else { format!("[{n}].{field}") }
}

fn answer_one(ids: &[(EventId, bool)]) -> (StatusCode, Json<Value>) {
    let (id, new) = ids.first().copied().unwrap_or((EventId(0), false));
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    (status, Json(json!({"_id": id.to_string()})))
}

fn batch(body: &[u8]) -> Result<Vec<Input>, ApiError> {
    let text = std::str::from_utf8(body).map_err(|_| ApiError::field("body", "must be UTF-8"))?;
    let mut plain = serde_json::Deserializer::from_str(text);
    let inputs: Vec<Input> = match body::objects(&mut plain) {
        Ok(inputs) => inputs,
        // Once more, slower, to learn where.
        Err(_) => return Err(wrong_in(text)),
    };
    plain.end().map_err(|_| ApiError::field("body", "there is something after the JSON value"))?;
    if inputs.len() > MOST {
        return Err(ApiError::new(Code::TooLarge, format!("the body has more than {MOST} events")));
    }
    Ok(inputs)
}

fn wrong_in(text: &str) -> ApiError {
    let mut track = serde_path_to_error::Track::new();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read: serde_json::Result<Vec<Input>> =
        body::objects(serde_path_to_error::Deserializer::new(&mut deserializer, &mut track));
    let reason = read.err().map(|error| error.to_string()).unwrap_or_default();
    let path = track.path().to_string();
    ApiError::field(if path == "." || path == "?" { "body".to_owned() } else { path }, reason)
}

fn checked(input: Input, caller: &Known, field: impl Fn(&str) -> String) -> Result<NewEvent, ApiError> {
    check_word(&input.name).map_err(|reason| ApiError::field(field("name"), reason))?;
    check_params(&input.params, &field("params"))?;
    if let Some(key) = &input.event_key {
        check_word(key).map_err(|reason| ApiError::field(field("event_key"), reason))?;
    }
    let author = caller.author(input.author.as_deref())?;
    Ok(NewEvent {
        name: input.name,
        params: input.params,
        author,
        key: input.event_key,
        cause: Cause::default(),
    })
}

/// Refuses params that could not be kept.
pub(super) fn check_params(params: &Params, field: &str) -> Result<(), ApiError> {
    check(params).map_err(|reason| ApiError::field(field, reason))?;
    if crate::params::size(params) > LARGEST {
        let message = format!("{field}: has more than {} KiB", LARGEST >> 10);
        return Err(ApiError::new(Code::TooLarge, message).arg("field", field));
    }
    Ok(())
}

pub(super) async fn list(
    State(desk): State<Desk>,
    Query(given): Query<Vec<(String, String)>>,
) -> Result<Json<Value>, ApiError> {
    let asked = filter::parse(given)?;
    let listed = filter::list(&desk.events.pool, asked).await.map_err(unavailable)?;
    let Some((events, total)) = listed else {
        let message = "the query would look at too many events: narrow it with name and time_created__gt";
        return Err(ApiError::field("time_created__gt", message));
    };
    let mut answer = json!({"result": events.iter().map(crate::Event::to_json).collect::<Vec<_>>()});
    if let Some(total) = total {
        answer["total"] = total.into();
    }
    Ok(Json(answer))
}
