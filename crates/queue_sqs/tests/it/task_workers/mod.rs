//! Schedulers and task workers on SQS.

mod engines;

// Shared with the tests of the crate `tasks`, which use all of it.
#[path = "../../../../tasks/tests/it/engine_suite.rs"]
mod engine_suite;
#[allow(dead_code)]
#[path = "../../../../tasks/tests/it/harness.rs"]
mod harness;
