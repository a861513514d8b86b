//! A proxy in front of Postgres that reads the protocol and breaks connections where a test says: at the statement
//! that carries the comment `-- name`, at a `COMMIT`, when a connection is made, or right now.
//!
//! For tests only: in Rust as [`Proxy`] ([`with_faults`] puts one in front of a database), from other
//! languages as the program `fault_proxy`, which takes the same [`Fault`]s as lines of JSON. Every injected fault is
//! counted: a test of a fault that did not happen shows nothing.

mod address;
mod connection;
mod database;
mod fault;
mod frontend;
mod link;
mod message;
mod plan;
mod proxy;

pub use address::Address;
pub use database::with_faults;
pub use fault::{Action, Fault, Point};
pub use plan::{Counts, Injection};
pub use proxy::{Connections, Proxy};
