//! Integration tests of background tasks on a real Postgres; one file per hazard.

// Test helpers may panic and print.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::panic, missing_docs)]

mod engine_suite;
mod engines;
mod forgetting;
mod harness;
mod lost_answers;
mod posting;
mod reconciled;
mod ticks;
mod workers;
