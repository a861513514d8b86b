//! The integration `partitions`: the ledger's partitions of the months to come, on every shard.
//!
//! How many months that are is what the bundle's schedules of `ledger.partitions` say. Only makes months: dropping those
//! beyond the retention is left to that task, which goes by what is still needed.

mod integration;

pub use integration::{PARTITIONS_INTEGRATION, PartitionArguments, PartitionReconciler};
