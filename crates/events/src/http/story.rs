//! `POST /api/v1/event_story` and `GET /api/v1/event_story/{id}`.

use axum::Json;
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, State};
use serde_json::{Value, json};
use serving::error::{ApiError, ErrorCode, control_database_error};
use serving::path::DecodedPath;

use super::EventApiState;
use crate::EventId;
use crate::story::EventStory;

/// Prefix of story ids; the event id follows.
const STORY_ID_PREFIX: &str = "story-";

pub(super) async fn post_story(
    State(state): State<EventApiState>,
    form: Result<Form<Vec<(String, String)>>, FormRejection>,
) -> Result<Json<Value>, ApiError> {
    let Form(fields) = form
        .map_err(|_| ApiError::invalid_field("Content-Type", "must be a form with the field id"))?;
    let mut id = None;
    for (name, value) in fields {
        match name.as_str() {
            "id" => id = Some(value),
            _ => {
                return Err(ApiError::invalid_field(
                    super::shorten_name(&name),
                    "unknown field; allowed is id",
                ));
            }
        }
    }
    let id = id.ok_or_else(|| ApiError::invalid_field("id", "is missing: the _id of an event"))?;
    let event = EventId::parse(&id)
        .ok_or_else(|| ApiError::invalid_field("id", "must be the _id of an event"))?;
    let story = find_story(&state, event).await?;
    Ok(Json(json!({"id": format!("{STORY_ID_PREFIX}{}", story.event.id)})))
}

pub(super) async fn get_story(
    State(state): State<EventApiState>,
    DecodedPath(id): DecodedPath<String>,
) -> Result<Json<Value>, ApiError> {
    let event =
        id.strip_prefix(STORY_ID_PREFIX).and_then(EventId::parse).ok_or_else(event_not_found)?;
    let story = find_story(&state, event).await?;
    Ok(Json(json!({"result": story.to_json()})))
}

async fn find_story(state: &EventApiState, event: EventId) -> Result<EventStory, ApiError> {
    state
        .events
        .read_story(event)
        .await
        .map_err(control_database_error)?
        .ok_or_else(event_not_found)
}

fn event_not_found() -> ApiError {
    ApiError::new(ErrorCode::NotFound, "there is no such event")
}
