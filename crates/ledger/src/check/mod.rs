//! `ledger check`: recomputes everything from the raw events and reports differences.
//!
//! - Shape: sequence numbers are gap-free and each event has one; contents match their
//!   fingerprints; accounts are on their shard; aggregates match the events; redundant copies
//!   agree; no event id is used under two shard keys.
//! - Cost: one read-only snapshot transaction per shard, concurrent with writers. Memory is bounded
//!   by one account's sums and a page of each cursor.

mod account;
mod contents;
mod copies;
mod duplicates;
mod numbers;
mod report;
mod rows;
mod shard;
mod snapshot;
mod types;

use duplicates::DuplicateEventKeys;
pub use report::{LedgerCheckDifference, LedgerCheckKind, LedgerCheckReport, ShardCheckReport};
use shard::check_shard;
use store::Result;
pub use types::LedgerTypeSource;

use crate::sharding::LedgerShards;

/// Progress of a check.
#[derive(Debug, Clone, Copy)]
pub struct LedgerCheckProgress<'a> {
    /// Current stage: `ids`, or the name of a shard.
    pub stage: &'a str,
    /// Events processed in this stage.
    pub done_events: i64,
    /// Total events of this stage.
    pub total_events: i64,
}

/// Checks every shard, read-only; reports progress to `on_progress`. Reads the types again for each
/// shard, because types can be created while the check runs.
pub async fn check_shards(
    shards: &LedgerShards,
    types: impl Into<LedgerTypeSource<'_>>,
    mut on_progress: impl FnMut(LedgerCheckProgress<'_>),
) -> Result<LedgerCheckReport> {
    let types = types.into();
    let mut report = LedgerCheckReport::default();
    let mut duplicates = DuplicateEventKeys::find_duplicates(shards, &mut on_progress).await?;
    for shard in shards.all() {
        check_shard(shard, shards, types, &mut duplicates, &mut report, &mut on_progress).await?;
    }
    duplicates.add_to_report(&mut report);
    Ok(report)
}
