//! What tests of queues need: the conformance suite that every FIFO engine passes, and an SQS emulator as a process.
//!
//! Only ever a dev-dependency.

pub mod conformance;
pub mod emulator;
