//! The bundle and the runtime; one file for each hazard.

// Helpers of tests may fail loudly, too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod bombs;
mod diagnostics;
mod folder;
mod links;
mod runtime;
