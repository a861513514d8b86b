//! Fault-injection proxy in front of Postgres. It reads the protocol and breaks connections at the
//! statement that carries the comment `-- name`, at a `COMMIT`, at connect, or immediately.
//!
//! For tests only: in Rust as [`FaultProxy`] ([`start_database_proxy`] puts one in front of a database), from
//! other languages as the program `fault_proxy`, which takes the same [`Fault`]s as JSON lines.
//! Every injected fault is counted: a test whose fault did not happen proves nothing.

mod address;
mod connection;
mod database;
mod fault;
mod frontend;
mod link;
mod message;
mod plan;
mod proxy;

pub use address::EndpointAddress;
pub use database::start_database_proxy;
pub use fault::{Fault, FaultAction, FaultPoint};
pub use plan::{FaultCounts, FaultInjection};
pub use proxy::{ConnectionCounts, FaultProxy};
