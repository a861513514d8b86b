//! The SDK for integrations: implement [`IntegrationHandler`] for each task type, and
//! run them with [`IntegrationWorker::run`].
//!
//! - Shape: the SDK polls, extends the visibility of tasks in progress, answers, remembers answers,
//!   counts metrics, and shuts down in order.
//! - Promise: at-least-once delivery. A *temporary* error is not answered, and the task is
//!   redelivered. A *permanent* error is answered, and only then is the message deleted. Handlers
//!   must be idempotent: the same input except for `block_id` gives the same output and no further
//!   change. An answered task that is redelivered gets the remembered answer again.

mod consumer;
mod handler;
mod host;
mod memory;

pub use handler::{BlockRequest, IntegrationError, IntegrationHandler, IntegrationHandlers};
pub use host::{IntegrationOptions, IntegrationWorker};
pub use memory::{InMemoryIntegrationStore, IntegrationStore, KeyValueStore, PgIntegrationStore};

pub use crate::protocol::BlockAction;
pub use crate::template::Env;
