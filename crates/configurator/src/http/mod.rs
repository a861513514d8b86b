//! The REST API under `/configurator/v1`. Handlers validate requests, call
//! [`Configurator`], and build responses.

mod refused;
mod runs;
mod templates;

use axum::Router;
use axum::routing::{get, post};
use serving::body;

use crate::Configurator;

pub use refused::{failed_run_json, to_api_error};
pub use runs::{RunRequestBody, forecast_json};

/// This crate's part of the OpenAPI document, as YAML.
pub const CONFIGURATOR_OPENAPI: &str = include_str!("../../openapi.yaml");

/// The routes of the configurator.
pub fn configurator_routes(configurator: Configurator) -> Router {
    Router::new()
        .route("/configurator/v1/templates", get(templates::list_templates))
        .route(
            "/configurator/v1/templates/{name}",
            get(templates::show_template).put(templates::put_template),
        )
        .route("/configurator/v1/runs", get(runs::list_runs).post(runs::begin_run))
        .route("/configurator/v1/runs/{id}", get(runs::show_run))
        .route("/configurator/v1/runs/{id}/resume", post(runs::resume_run))
        .route("/configurator/v1/runs/{id}/cancel", post(runs::cancel_run))
        .route("/configurator/v1/forecast", post(runs::forecast_run))
        .route("/configurator/v1/export", get(runs::export_run))
        .route("/v1/export", get(runs::export_run))
        .method_not_allowed_fallback(body::method_not_allowed)
        .with_state(configurator)
}
