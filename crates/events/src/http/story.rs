//! `POST /api/v1/event_story` and `GET /api/v1/event_story/{id}`.

use axum::Json;
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, State};
use serde_json::{Value, json};
use serving::error::{ApiError, Code};
use serving::path::Path;

use super::{Desk, unavailable};
use crate::EventId;
use crate::story::Story;

/// What a story's id begins with; the event's id follows.
const PREFIX: &str = "story-";

pub(super) async fn begin(
    State(desk): State<Desk>,
    form: Result<Form<Vec<(String, String)>>, FormRejection>,
) -> Result<Json<Value>, ApiError> {
    let Form(fields) =
        form.map_err(|_| ApiError::field("Content-Type", "must be a form with the field id"))?;
    let mut id = None;
    for (name, value) in fields {
        match name.as_str() {
            "id" => id = Some(value),
            _ => return Err(ApiError::field(super::short(&name), "unknown field; allowed is id")),
        }
    }
    let id = id.ok_or_else(|| ApiError::field("id", "is missing: the _id of an event"))?;
    let event = EventId::parse(&id).ok_or_else(|| ApiError::field("id", "must be the _id of an event"))?;
    let story = look(&desk, event).await?;
    Ok(Json(json!({"id": format!("{PREFIX}{}", story.event.id)})))
}

pub(super) async fn show(State(desk): State<Desk>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    let event = id.strip_prefix(PREFIX).and_then(EventId::parse).ok_or_else(nothing)?;
    let story = look(&desk, event).await?;
    Ok(Json(json!({"result": story.to_json()})))
}

async fn look(desk: &Desk, event: EventId) -> Result<Story, ApiError> {
    desk.events.story(event).await.map_err(unavailable)?.ok_or_else(nothing)
}

fn nothing() -> ApiError {
    ApiError::new(Code::NotFound, "there is no such event")
}
