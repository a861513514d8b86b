//! REST API of events, stories, configs and statuses. Handlers validate, call the store and shape
//! responses.

mod caller;
mod configs;
mod events;
mod filter;
mod status;
mod story;

use axum::Router;
use axum::routing::{get, post};
use serving::body;

use crate::{EventStore, EventWriter};

pub use caller::ApiCaller;

/// State of the handlers; clones share it.
#[derive(Clone)]
pub struct EventApiState {
    /// Reads events, stories and configs.
    pub events: EventStore,
    /// Writes events in group commits.
    pub writer: EventWriter,
}

/// OpenAPI descriptions of the routes.
pub const EVENTS_OPENAPI_YAML: [&str; 2] =
    [include_str!("../../openapi/events.yaml"), include_str!("../../openapi/configs.yaml")];

/// Router of all event endpoints.
pub fn event_routes(state: EventApiState) -> Router {
    Router::new()
        .route("/api/v1/events", get(events::list_events).post(events::post_events))
        .route("/api/v1/event_story", post(story::post_story))
        .route("/api/v1/event_story/{id}", get(story::get_story))
        .route("/api/v1/action_configs", get(configs::list_configs).post(configs::create_config))
        .route(
            "/api/v1/action_configs/{name}",
            get(configs::get_config).put(configs::put_config).delete(configs::delete_config),
        )
        .route("/task/status", post(status::post_task_status))
        .method_not_allowed_fallback(body::method_not_allowed)
        .with_state(state)
}

/// A name shortened to 80 characters for an error message.
fn shorten_name(text: &str) -> String {
    text.chars().take(80).collect()
}
