//! The REST API of events, stories, configs and statuses. Handlers check, ask the rooms, and shape answers; nothing else.

mod caller;
mod configs;
mod events;
mod filter;
mod status;
mod story;

use axum::Router;
use axum::routing::{get, post};
use serving::body;
use serving::error::{ApiError, of_database};

use crate::{Events, Writer};

pub use caller::Caller;

/// What the handlers need; clones share it.
#[derive(Clone)]
pub struct Desk {
    /// The events.
    pub events: Events,
    /// Writes them.
    pub writer: Writer,
}

/// The description of the routes.
pub const DESCRIPTION: [&str; 2] =
    [include_str!("../../openapi/events.yaml"), include_str!("../../openapi/configs.yaml")];

/// The routes.
pub fn routes(desk: Desk) -> Router {
    Router::new()
        .route("/api/v1/events", get(events::list).post(events::post))
        .route("/api/v1/event_story", post(story::begin))
        .route("/api/v1/event_story/{id}", get(story::show))
        .route("/api/v1/action_configs", get(configs::list).post(configs::create))
        .route("/api/v1/action_configs/{name}", get(configs::show).put(configs::put).delete(configs::delete))
        .route("/task/status", post(status::report))
        .method_not_allowed_fallback(body::method_not_allowed)
        .with_state(desk)
}

fn unavailable(error: store::Error) -> ApiError {
    of_database("the control database", error)
}

/// A name in an error, however long it is.
fn short(text: &str) -> String {
    text.chars().take(80).collect()
}
