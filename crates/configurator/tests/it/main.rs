//! Tests of the configurator against a real Postgres; one file per hazard.

// Test helpers may panic, too.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    missing_docs
)]

mod brought_back;
mod cached;
mod checked;
mod faulty_integration;
mod gone;
mod harness;
mod large;
mod late;
mod modules;
mod poison;
mod renamed;
mod restarted;
mod sdk;
mod templates;
mod wire;
mod woken;
