//! The FIFO queues of each environment: what the bundle says about them, and the integration that makes them.
//!
//! Queues are made and changed, never deleted: there may be messages in them, and what else uses them nobody knows.

mod definition;
mod env_queues;
mod integration;
mod plan;

use std::sync::Arc;

use futures::future::BoxFuture;
use queue::fifo::FifoCatalogue;

pub(crate) use definition::check_queues;
pub use definition::{ENV_NAMES, QUEUE_SCHEMA, QueueFile};
pub use env_queues::build_env_queues;
pub use integration::{QUEUES_INTEGRATION, QueueReconciler};

/// The queues of an environment; `None`: it has no place for queues here, and is left alone. An error is one line.
pub type EnvCatalogueResult = Result<Option<Arc<dyn FifoCatalogue>>, String>;

/// Where the queues of each environment are.
pub trait EnvQueues: Send + Sync {
    /// Those of `env`: `dev`, `test` or `prod`.
    fn catalogue_of<'a>(&'a self, env: &'a str) -> BoxFuture<'a, EnvCatalogueResult>;

    /// Whether they may not answer although the control database does: nobody who starts must wait for them.
    fn can_be_unavailable(&self) -> bool;
}
