//! Integration tests of the order service's modules over a real Postgres, with test stages; one
//! file per hazard. The tests of the programs from outside are in `tests/e2e`.

// Test helpers may panic, too.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    missing_docs
)]

mod accepting;
mod access_matrix;
mod audit_trail;
mod bundle_commands;
mod bundles;
mod callbacks;
mod connection_loss;
mod described;
mod fairness;
mod giving_up;
mod guards;
mod harness;
mod panics;
mod poison;
mod processes;
mod reconciled;
mod silent_hosts;
mod takeover;
