//! The FIFO queues of each environment: what the bundle says about them, and the integration that makes them.
//!
//! Queues are made and changed, never deleted: there may be messages in them, and what else uses them nobody knows.

mod definition;
mod integration;
mod plan;

use std::sync::Arc;

use futures::future::BoxFuture;
use queue::fifo::{FifoCatalogue, PostgresCatalogue};

pub(crate) use definition::check_queues;
pub use definition::{ENVS, QUEUE_SCHEMA, QueueFile};
pub use integration::{QUEUES, Queues};

/// The queues of an environment; `None`: it has no place for queues here, and is left alone. An error is one line.
pub type Catalogue = Result<Option<Arc<dyn FifoCatalogue>>, String>;

/// Where the queues of each environment are.
pub trait EnvQueues: Send + Sync {
    /// Those of `env`: `dev`, `test` or `prod`.
    fn of<'a>(&'a self, env: &'a str) -> BoxFuture<'a, Catalogue>;
}

/// All environments' queues are in one control database.
impl EnvQueues for sqlx::PgPool {
    fn of<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Catalogue> {
        let catalogue: Arc<dyn FifoCatalogue> = Arc::new(PostgresCatalogue(self.clone()));
        Box::pin(std::future::ready(Ok(Some(catalogue))))
    }
}
