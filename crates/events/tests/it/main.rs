//! Integration tests of events on a real Postgres: one file per hazard.

// Test helpers may panic and print.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    missing_docs
)]

mod author_shards;
mod chains;
mod configs;
mod exactly_once;
mod filters;
mod harness;
mod joins;
mod keys;
mod limits;
mod meaning;
mod retention;
mod set_aside;
mod staged;
mod statuses;
mod stories;
mod webhook_answers;
mod webhook_limits;
mod webhook_places;
mod webhook_tls;
mod webhooks;
