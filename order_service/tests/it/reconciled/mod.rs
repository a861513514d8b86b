//! The `reconcile` command over real databases; one file per hazard.

mod dry_run;
mod https;
// Only a debug build dies at a named point: `make unit-long`.
#[cfg(debug_assertions)]
mod killed;
mod overlap;
mod partitions;
#[cfg(feature = "sqs")]
mod sqs;
#[cfg(feature = "sqs")]
#[path = "../../../../crates/queue_sqs/tests/it/emulator.rs"]
mod sqs_emulator;
mod world;
