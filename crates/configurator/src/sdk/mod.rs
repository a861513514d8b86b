//! For those who write integrations: implement [`IntegrationHandler`] for each type of task, and [`IntegrationWorker::run`] them.
//!
//! Polling, keeping a message while a handler works, answers under all circumstances, the memory of what was answered,
//! metrics and a graceful stop come with it. A *temporary* error leaves the message in the queue: it comes again. A
//! *permanent* one is answered, and only then is the message deleted. A message may come more than once: handlers must be
//! idempotent (the same input but for `block_id`, the same output and no further change); for one that was answered
//! already the remembered answer is sent again.

mod consumer;
mod handler;
mod host;
mod memory;

pub use handler::{BlockRequest, IntegrationError, IntegrationHandler, IntegrationHandlers};
pub use host::{IntegrationOptions, IntegrationWorker};
pub use memory::{InMemoryIntegrationStore, IntegrationStore, KeyValueStore, PgIntegrationStore};

pub use crate::protocol::BlockAction;
pub use crate::template::Env;
