//! The REST API, under `/configurator/v1`. Handlers check, ask the rooms, and shape answers; nothing else.

mod refused;
mod runs;
mod templates;

use axum::Router;
use axum::routing::{get, post};
use serving::body;

use crate::Configurator;

pub use refused::{failed_run, refused};
pub use runs::{Request, forecast_json};

/// The description of the routes.
pub const DESCRIPTION: &str = include_str!("../../openapi.yaml");

/// The routes.
pub fn routes(configurator: Configurator) -> Router {
    Router::new()
        .route("/configurator/v1/templates", get(templates::list))
        .route("/configurator/v1/templates/{name}", get(templates::show).put(templates::put))
        .route("/configurator/v1/runs", get(runs::list).post(runs::begin))
        .route("/configurator/v1/runs/{id}", get(runs::show))
        .route("/configurator/v1/runs/{id}/resume", post(runs::resume))
        .route("/configurator/v1/runs/{id}/cancel", post(runs::cancel))
        .route("/configurator/v1/forecast", post(runs::forecast))
        .route("/configurator/v1/export", get(runs::export))
        .route("/v1/export", get(runs::export))
        .method_not_allowed_fallback(body::method_not_allowed)
        .with_state(configurator)
}
