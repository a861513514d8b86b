//! The order service's rooms wired together over a real Postgres, with stages made for the test; one file for each
//! hazard. The outside view, with both real programs, is in `tests/e2e`.

// Helpers of tests may fail loudly, too.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    missing_docs
)]

mod accepting;
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
