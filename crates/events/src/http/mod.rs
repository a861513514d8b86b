//! REST API of events, stories, configs and statuses. Handlers validate, call the store and shape
//! responses.

mod caller;
mod configs;
mod events;
mod filter;
mod status;
mod story;

use access::Scope;
use serving::body;
use serving::scoped_router::ScopedRouter;

use crate::{EventStore, EventWriter};

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
pub fn event_routes(state: EventApiState) -> ScopedRouter {
    const READ: Scope = Scope::EventsRead;
    ScopedRouter::new()
        .get("/api/v1/events", READ, events::list_events)
        .post("/api/v1/events", Scope::EventsWrite, events::post_events)
        .post("/api/v1/event_story", READ, story::post_story)
        .get("/api/v1/event_story/{id}", READ, story::get_story)
        .get("/api/v1/action_configs", READ, configs::list_configs)
        .post("/api/v1/action_configs", Scope::ConfigsWrite, configs::create_config)
        .get("/api/v1/action_configs/{name}", READ, configs::get_config)
        .put("/api/v1/action_configs/{name}", Scope::ConfigsWrite, configs::put_config)
        .delete("/api/v1/action_configs/{name}", Scope::ConfigsWrite, configs::delete_config)
        .post("/task/status", Scope::EventsWrite, status::post_task_status)
        .method_not_allowed_fallback(body::method_not_allowed)
        .with_state(state)
}

/// A name shortened to 80 characters for an error message.
fn shorten_name(text: &str) -> String {
    text.chars().take(80).collect()
}
