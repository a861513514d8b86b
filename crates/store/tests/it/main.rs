//! The store against a real Postgres; one file per hazard.

// Test helpers may panic.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    missing_docs
)]

mod cancellation;
mod coalescing;
mod deep_data_dir;
mod duties;
mod growth;
mod landed_migrations;
mod leases;
mod properties;
mod released_functions;
mod schema_versions;
mod second_connection;
mod silence;
mod statement_names;
mod statements;
mod unknown_outcomes;
