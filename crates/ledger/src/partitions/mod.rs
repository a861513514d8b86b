//! Partitions: events lie in a table for each month, made ahead, and dropped when they are older than the retention.
//!
//! A month is dropped once everything in it has numbers, is aggregated and is exported. What it summed up to stays
//! (`closing_balances`), and the shard's horizon moves: questions about times before it are refused, all others are
//! answered as before. Writers and readers wait 100 ms at most. A month that was dropped is made again when somebody
//! writes to it.

mod closing;
mod horizon;
mod maintenance;
mod missing;
mod retention;

pub(crate) use closing::read_closing_sums;
pub(crate) use horizon::{
    HorizonGuard, HorizonRow, RequestedMoment, read_horizon, read_horizon_row,
};
pub use maintenance::{PartitionOptions, PartitionReport, RetainedPartition, maintain_partitions};
pub use missing::{MONTH_FORMAT, create_missing_partitions, list_missing_partitions};
pub use retention::Retention;
