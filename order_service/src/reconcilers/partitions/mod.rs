//! Reconciler `partitions`: future monthly partitions of the ledger, on every shard.
//!
//! The bundle's schedules of `ledger.partitions` set the number of months. This reconciler only
//! creates partitions. The task `ledger.partitions` drops those beyond the retention, because it
//! checks which are still needed.

mod reconciler;

pub use reconciler::{PARTITIONS_RECONCILER, PartitionArguments, PartitionReconciler};
