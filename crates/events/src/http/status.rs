//! `POST /task/status`: writes an external task's status change as an event.

use axum::Json;
use axum::extract::FromRequest as _;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;
use serving::body::{self, JsonBody};
use serving::caller::Caller;
use serving::compute;
use serving::error::{ApiError, ErrorCode, control_database_error};
use serving::numbers::check_exact_numbers;
use serving::query::{DecodedQuery, unknown_parameter_error};

use super::EventApiState;
use super::caller::resolve_author;
use super::events::check_params;
use crate::{EventCause, EventParams, EventWriteOutcome, NewEvent};

pub(super) async fn post_task_status(
    State(state): State<EventApiState>,
    caller: Caller,
    DecodedQuery(query): DecodedQuery<Vec<(String, String)>>,
    request: Request,
) -> Response {
    let empty = http_body::Body::is_end_stream(request.body());
    let params = match empty {
        true => Ok(EventParams::new()),
        false => match JsonBody::from_request(request, &()).await {
            Ok(JsonBody(body)) => {
                compute::parse_by_size(body.len(), move || parse_status_params(&body)).await
            }
            Err(refusal) => return refusal,
        },
    };
    let written = match params {
        Ok(params) => write_status_event(&state, &caller, query, params).await,
        Err(error) => Err(error),
    };
    written.unwrap_or_else(axum::response::IntoResponse::into_response)
}

fn parse_status_params(body: &[u8]) -> Result<EventParams, ApiError> {
    let params = body::parse_object(body)?;
    check_exact_numbers(body)?;
    Ok(params)
}

async fn write_status_event(
    state: &EventApiState,
    caller: &Caller,
    query: Vec<(String, String)>,
    mut params: EventParams,
) -> Result<Response, ApiError> {
    let settings = state.events.settings.clone();
    params.entry("environment").or_insert_with(|| settings.environment.clone().into());
    for (name, value) in query {
        match name.as_str() {
            "taskType" | "taskStatus" | "environment" => drop(params.insert(name, value.into())),
            _ => {
                let allowed = ["taskType", "taskStatus", "environment"];
                return Err(unknown_parameter_error(&name, &allowed));
            }
        }
    }
    for needed in ["taskType", "taskStatus"] {
        if params.get(needed).and_then(|value| value.as_str()).is_none_or(str::is_empty) {
            return Err(ApiError::invalid_field(needed, "is missing"));
        }
    }
    check_params(&params, "params")?;
    let (name, author) = (settings.status_event.clone(), resolve_author(caller, None)?);
    let event = NewEvent { name, params, author, key: None, cause: EventCause::default() };
    match state.writer.write(vec![event]).await.map_err(control_database_error)? {
        EventWriteOutcome::Events(ids) => {
            let id = ids.first().map(|(id, _)| id.to_string());
            Ok((StatusCode::CREATED, Json(json!({"_id": id}))).into_response())
        }
        EventWriteOutcome::Conflict { .. } => {
            Err(ApiError::new(ErrorCode::LogicError, "an event without a key has a key"))
        }
    }
}
