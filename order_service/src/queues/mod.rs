//! The FIFO queues of each environment: what the bundle says about them, and the integration that makes them.
//!
//! Queues are made and changed, never deleted: there may be messages in them, and what else uses them nobody knows.

mod configured;
mod definition;
mod integration;
mod plan;

use std::sync::Arc;

use futures::future::BoxFuture;
use queue::fifo::FifoCatalogue;

pub use configured::configured;
pub(crate) use definition::check_queues;
pub use definition::{ENVS, QUEUE_SCHEMA, QueueFile};
pub use integration::{QUEUES, Queues};

/// The queues of an environment; `None`: it has no place for queues here, and is left alone. An error is one line.
pub type Catalogue = Result<Option<Arc<dyn FifoCatalogue>>, String>;

/// Where the queues of each environment are.
pub trait EnvQueues: Send + Sync {
    /// Those of `env`: `dev`, `test` or `prod`.
    fn of<'a>(&'a self, env: &'a str) -> BoxFuture<'a, Catalogue>;

    /// Whether they may not answer although the control database does: nobody who starts must wait for them.
    fn can_be_away(&self) -> bool;
}
