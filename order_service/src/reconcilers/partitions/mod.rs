//! Integration `partitions`: future monthly partitions of the ledger, on every shard.
//!
//! The bundle's schedules of `ledger.partitions` set the number of months. This integration only
//! creates partitions. The task `ledger.partitions` drops those beyond the retention, because it
//! checks which are still needed.

mod integration;

pub use integration::{PARTITIONS_INTEGRATION, PartitionArguments, PartitionReconciler};
