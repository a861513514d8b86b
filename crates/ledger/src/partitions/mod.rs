//! Partitions: one table of events per month, created ahead and dropped beyond the retention.
//!
//! - Shape: partitions of `events`, `closing_balances`, `horizon`.
//! - Cost: readers and writers wait at most 100 ms for maintenance.
//! - Promise: a month is dropped once all its events are numbered, aggregated and exported. Its
//!   sums stay in `closing_balances` and the shard's horizon moves: queries before the horizon are
//!   refused, all others are answered as before. A late event recreates a dropped month.

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
