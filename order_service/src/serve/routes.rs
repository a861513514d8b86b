//! The routes of the HTTP API, and the description of all of them: here the crates' routers meet.

use std::sync::Arc;

use axum::Router;
use configurator::Configurator;
use events::http::EventApiState;
use ledger::Ledger;
use tasks::TaskStore;

use crate::bundle::{self, ReconcileTargets};

/// What the routes ask.
pub struct HttpApiServices {
    /// The ledger.
    pub ledger: Arc<Ledger>,
    /// The background tasks.
    pub tasks: TaskStore,
    /// The events.
    pub events: EventApiState,
    /// What is reconciled.
    pub targets: ReconcileTargets,
    /// The configurator.
    pub configurator: Configurator,
}

/// All routes, with their description.
pub fn build_api_routes(services: HttpApiServices) -> Router {
    ledger::http::build_ledger_routes(services.ledger)
        .merge(tasks::http::task_routes(services.tasks))
        .merge(events::http::event_routes(services.events))
        .merge(bundle::http::build_reconcile_routes(services.targets))
        .merge(configurator::http::configurator_routes(services.configurator))
        .merge(openapi::docs_routes(collect_openapi_parts()))
}

/// The parts of the description, in the order in which they are shown.
pub fn collect_openapi_parts() -> Vec<&'static str> {
    let mut parts = ledger::http::OPENAPI_DOCUMENTS.to_vec();
    parts.extend(events::http::EVENTS_OPENAPI_YAML);
    parts.extend([
        tasks::http::TASKS_OPENAPI_YAML,
        configurator::http::CONFIGURATOR_OPENAPI,
        bundle::http::OPENAPI_DOCUMENT,
    ]);
    parts
}
