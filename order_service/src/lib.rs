//! Order service: accepts orders over gRPC, processes them in a staged pipeline, asks the data
//! manager, retries failures from a queue.
//!
//! [`orders`] is the way of an order; [`serve`] starts everything, [`cli`] is the command line.

pub mod background;
pub mod cli;
pub mod orders;
pub mod platform_integration;
pub mod reconcilers;
pub mod serve;
pub mod settings;
