//! Graphs of configuration blocks, carried out by integrations over FIFO queues.
//!
//! A [`template`] describes a graph of blocks; a [`run`] sends each integration block as a message to the queue of its
//! integration as soon as what it depends on has answered. Messages leave with the transaction that notes them as sent;
//! [`answers`] are committed by whoever receives them, and wake the run's driver. [`sdk`] is for those who write
//! integrations, and [`check`] for those who want to know whether they keep to the protocol; [`http`] are the routes.

pub mod answers;
pub mod check;
pub mod dead_letters;
mod environments;
pub mod http;
pub mod protocol;
pub mod queues;
pub mod run;
pub mod sdk;
mod service;
pub mod template;
pub mod template_store;
pub mod transcript;

pub use environments::EnvironmentsInUse;
pub use service::{Configurator, ConfiguratorError, ConfiguratorSettings, RunRequest};
