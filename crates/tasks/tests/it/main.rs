//! Background tasks against a real Postgres; one file for each hazard.

// Helpers of tests may fail loudly, too.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::panic, missing_docs)]

mod engines;
mod forgetting;
mod harness;
mod lost_answers;
mod posting;
mod reconciled;
mod ticks;
mod workers;
