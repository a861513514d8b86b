//! The `reconcile` command over real databases; one file per hazard.

mod dry_run;
mod https;
mod killed;
mod overlap;
mod partitions;
mod sqs;
mod world;
