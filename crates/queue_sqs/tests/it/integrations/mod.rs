//! Integrations of the configurator on SQS.

mod checked;
mod example;

// Shared with the configurator's tests, which use all of it.
#[allow(dead_code)]
#[path = "../../../../configurator/tests/it/faulty_integration.rs"]
mod faulty_integration;
#[allow(dead_code)]
#[path = "../../../../configurator/tests/it/harness.rs"]
mod harness;
