//! The configurator: carries out graphs of configuration blocks through
//! integrations over FIFO queues.
//!
//! A [`template`] describes a graph of blocks. A [`run`] sends each block as a message to its
//! integration's queue, as soon as the blocks it depends on are answered. Any process commits any
//! of the [`answers`]; a notification wakes the run's driver. [`sdk`] is the library for
//! integrations, [`check`] their conformance kit, [`http`] the routes.
//!
//! - Shape: tables `configurator_*` of the control database; a task queue per integration and an
//!   answer queue per environment.
//! - Promise: a message commits in the same transaction as its block's state `sent`. An answer is
//!   deleted from its queue only after its commit. Delivery to integrations is at least once.

pub mod answers;
pub mod check;
pub mod dead_letters;
mod environments;
pub mod http;
mod ids;
pub mod protocol;
pub mod queues;
pub mod run;
pub mod sdk;
mod service;
pub mod template;
pub mod template_store;
pub mod transcript;

pub use environments::EnvironmentsInUse;
pub use ids::{BlockId, RunId};
pub use service::{Configurator, ConfiguratorError, ConfiguratorSettings, RunRequest};
