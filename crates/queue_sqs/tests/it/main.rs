//! The SQS engine, and what uses it, against an emulator; one file per hazard. Also the example of an
//! integration in Rust, which is built with this engine.

// Test helpers may panic, too.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    missing_docs
)]

mod catalogue;
mod conformance;
mod emulator;
mod faulty_endpoint;
mod integrations;
mod outbox;
mod task_workers;
