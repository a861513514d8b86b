//! Integration tests of the accept loop with raw sockets.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    missing_docs
)]

mod access_control;
mod authority;
mod bodies;
mod client_limits;
mod connections;
mod harness;
mod probes;
mod tls;
