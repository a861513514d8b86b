//! The routes of the HTTP API, and the description of all of them: here the crates' routers meet.

use std::sync::Arc;

use axum::Router;
use configurator::Configurator;
use events::http::Desk;
use ledger::Ledger;
use tasks::Tasks;

use crate::bundle::{self, Targets};

/// What the routes ask.
pub struct Served {
    /// The ledger.
    pub ledger: Arc<Ledger>,
    /// The background tasks.
    pub tasks: Tasks,
    /// The events.
    pub events: Desk,
    /// What is reconciled.
    pub targets: Targets,
    /// The configurator.
    pub configurator: Configurator,
}

/// All routes, with their description.
pub fn all(served: Served) -> Router {
    ledger::http::routes(served.ledger)
        .merge(tasks::http::routes(served.tasks))
        .merge(events::http::routes(served.events))
        .merge(bundle::http::routes(served.targets))
        .merge(configurator::http::routes(served.configurator))
        .merge(openapi::routes(description()))
}

/// The parts of the description, in the order in which they are shown.
pub fn description() -> Vec<&'static str> {
    let mut parts = ledger::http::DESCRIPTION.to_vec();
    parts.extend(events::http::DESCRIPTION);
    parts.extend([tasks::http::DESCRIPTION, configurator::http::DESCRIPTION, bundle::http::DESCRIPTION]);
    parts
}
