//! Test support for queues: the conformance suite of FIFO engines and an SQS emulator process.
//!
//! Used only as a dev-dependency.

pub mod conformance;
pub mod emulator;
