//! Routes of the HTTP API and their OpenAPI document, merged from all crates.

use std::sync::Arc;

use configurator::Configurator;
use events::http::EventApiState;
use ledger::Ledger;
use serving::scoped_router::ScopedRouter;
use sqlx::PgPool;
use tasks::TaskStore;

use crate::audit_http;
use crate::reconcilers::bundle::{self, ReconcileTargets};

/// State of the routes.
pub struct HttpApiServices {
    /// Ledger for the routes below `/v1`.
    pub ledger: Arc<Ledger>,
    /// Store of the background tasks.
    pub tasks: TaskStore,
    /// Event store and writer.
    pub events: EventApiState,
    /// Targets of `POST /api/v1/reconcile`.
    pub targets: ReconcileTargets,
    /// Configurator for templates and runs.
    pub configurator: Configurator,
    /// Control database, for the audit trail.
    pub audit_pool: PgPool,
}

/// All routes, with their OpenAPI document.
pub fn build_api_routes(services: HttpApiServices) -> ScopedRouter {
    ledger::http::build_ledger_routes(services.ledger)
        .merge(tasks::http::task_routes(services.tasks))
        .merge(events::http::event_routes(services.events))
        .merge(bundle::http::build_reconcile_routes(services.targets))
        .merge(configurator::http::configurator_routes(services.configurator))
        .merge(audit_http::audit_routes(services.audit_pool))
        .merge(openapi::docs_routes(collect_openapi_parts()))
}

/// Parts of the OpenAPI document, in display order.
pub fn collect_openapi_parts() -> Vec<&'static str> {
    let mut parts = ledger::http::OPENAPI_DOCUMENTS.to_vec();
    parts.extend(events::http::EVENTS_OPENAPI_YAML);
    parts.extend([
        tasks::http::TASKS_OPENAPI_YAML,
        configurator::http::CONFIGURATOR_OPENAPI,
        bundle::http::OPENAPI_DOCUMENT,
        audit_http::OPENAPI_DOCUMENT,
    ]);
    parts
}
