//! The `reconcile` command over real databases; one file per hazard.

mod dry_run;
mod https;
mod killed;
mod overlap;
mod partitions;
#[cfg(feature = "sqs")]
mod sqs;
#[cfg(feature = "sqs")]
#[path = "../../../../crates/queue_sqs/tests/it/emulator.rs"]
mod sqs_emulator;
mod world;
