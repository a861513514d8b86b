//! `reconcile` over real databases, as a command; one file for each hazard.

mod dry_run;
mod https;
mod killed;
mod overlap;
mod partitions;
mod sqs;
mod world;
