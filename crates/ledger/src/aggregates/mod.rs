//! Aggregates: sums per account, grouping and period, maintained from numbered events, each counted
//! exactly once.
//!
//! - Shape: turnovers of periods, not balances at dates. A backdated event changes one row per
//!   period length and is correct at every later date.
//! - Cost: a balance reads the years before its date, the months of its year, and so on: at most
//!   about 200 rows, independent of the history.
//! - Promise: events that are not aggregated yet are read in the same statement, so every balance
//!   is exact in its snapshot.

mod aggregator;
mod fold;
mod pass;
mod periods;
mod recount;

pub use aggregator::Aggregator;
pub(crate) use fold::{AggregateSum, Grouping, GroupingRow};
pub use pass::run_aggregation_pass;
pub(crate) use periods::{AggregateLevel, BalanceCutOffs, compute_cut_offs};
pub(crate) use recount::{AggregateRecount, AggregateRow};

/// Name of the duty that aggregates a shard.
pub const AGGREGATOR_DUTY: &str = "aggregator";
