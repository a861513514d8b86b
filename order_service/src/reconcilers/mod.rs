//! Reconcilers of the service: what brings a bundle's objects into the databases, beside those of
//! the crates `ledger`, `events` and `tasks`.

mod audited;
pub mod bundle;
pub mod partitions;
pub mod queues;
