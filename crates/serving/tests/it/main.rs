//! What clients meet: raw sockets against the accept loop.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    missing_docs
)]

mod bodies;
mod connections;
mod harness;
mod probes;
