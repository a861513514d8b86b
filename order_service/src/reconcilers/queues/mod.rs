//! FIFO queues of each environment: documents of the bundle, and the reconciler that creates them.
//!
//! Queues are created and updated, never deleted: they may hold messages and may have other users.

mod definition;
mod env_queues;
mod plan;
mod reconciler;

use std::sync::Arc;

use futures::future::BoxFuture;
use queue::fifo::FifoCatalogue;

pub(crate) use definition::check_queues;
pub use definition::{ENV_NAMES, QUEUE_SCHEMA, QueueFile};
pub use env_queues::build_env_queues;
pub use reconciler::{QUEUES_RECONCILER, QueueReconciler};

/// Catalogue of an environment; `None` if the environment has no queues here and is skipped. An
/// error is one line.
pub type EnvCatalogueResult = Result<Option<Arc<dyn FifoCatalogue>>, String>;

/// Access to the queue catalogue of each environment.
pub trait EnvQueues: Send + Sync {
    /// Catalogue of `env`: `dev`, `test` or `prod`.
    fn catalogue_of<'a>(&'a self, env: &'a str) -> BoxFuture<'a, EnvCatalogueResult>;

    /// Whether the engine can be down while the control database is up. If so, a starting service
    /// must not wait for it.
    fn can_be_unavailable(&self) -> bool;
}
