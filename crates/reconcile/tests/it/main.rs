//! The bundle and the runtime; one file for each hazard.

// Helpers of tests may fail loudly, too.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    missing_docs
)]

mod affected;
mod bombs;
mod changed_since;
mod diagnostics;
mod early_exit;
mod example;
mod exclusive;
mod folder;
mod links;
mod runtime;
mod saved;
mod sent;
mod world;
