//! The REST API under `/configurator/v1`. Handlers validate requests, call
//! [`Configurator`], and build responses.

mod refused;
mod runs;
mod templates;

use access::Scope;
use serving::body;
use serving::scoped_router::ScopedRouter;

use crate::Configurator;

pub use refused::{failed_run_json, to_api_error};
pub use runs::{RunRequestBody, forecast_json};

/// This crate's part of the OpenAPI document, as YAML.
pub const CONFIGURATOR_OPENAPI: &str = include_str!("../../openapi.yaml");

/// The routes of the configurator.
pub fn configurator_routes(configurator: Configurator) -> ScopedRouter {
    const RUN: Scope = Scope::ConfiguratorRun;
    ScopedRouter::new()
        .get("/configurator/v1/templates", RUN, templates::list_templates)
        .get("/configurator/v1/templates/{name}", RUN, templates::show_template)
        .put("/configurator/v1/templates/{name}", Scope::ConfigsWrite, templates::put_template)
        .get("/configurator/v1/runs", RUN, runs::list_runs)
        .post("/configurator/v1/runs", RUN, runs::begin_run)
        .get("/configurator/v1/runs/{id}", RUN, runs::show_run)
        .post("/configurator/v1/runs/{id}/resume", RUN, runs::resume_run)
        .post("/configurator/v1/runs/{id}/cancel", RUN, runs::cancel_run)
        .post("/configurator/v1/forecast", RUN, runs::forecast_run)
        .get("/configurator/v1/export", RUN, runs::export_run)
        .get("/v1/export", RUN, runs::export_run)
        .method_not_allowed_fallback(body::method_not_allowed)
        .with_state(configurator)
}
