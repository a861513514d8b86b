//! Test support for queues: the conformance suites of FIFO engines and of their catalogues.
//!
//! Used only as a dev-dependency.

pub mod catalogue;
pub mod conformance;
