//! Order service: accepts orders over gRPC, processes them in a staged pipeline, asks the data
//! manager, retries failures from a queue.
//!
//! [`orders`] is the way of an order; [`serve`] starts everything. The command line is in the binary (`main.rs`, `cli`):
//! both are compiled side by side, and a change of a command compiles nothing else.

pub mod audit_http;
pub mod background;
pub mod orders;
pub mod platform_integration;
pub mod reconcilers;
pub mod serve;
pub mod settings;
