//! `ledger check`: everything recomputed from the raw events. Numbers have no gap and every event has one place in them;
//! each event says what its writer said (the hash kept with its key); each account lies where it belongs; each sum is
//! that of its events; what is kept twice is the same; and no id was used under two shard keys.
//!
//! Each shard is read as it was at one moment, while everybody goes on; memory does not grow with the history but for the
//! sums of one account at a time.

mod account;
mod contents;
mod copies;
mod duplicates;
mod numbers;
mod report;
mod rows;
mod shard;
mod snapshot;

use duplicates::DuplicateEventKeys;
pub use report::{LedgerCheckDifference, LedgerCheckKind, LedgerCheckReport, ShardCheckReport};
use shard::check_shard;
use store::Result;

use crate::sharding::LedgerShards;
use crate::types::LedgerTypeRegistry;

/// How far a check has come.
#[derive(Debug, Clone, Copy)]
pub struct LedgerCheckProgress<'a> {
    /// What is being checked: `ids`, or a shard.
    pub stage: &'a str,
    /// Events done in this stage.
    pub done_events: i64,
    /// Events that there are in this stage.
    pub total_events: i64,
}

/// Checks every shard; `on_progress` hears how far it has come. Reads only.
pub async fn check_shards(
    shards: &LedgerShards,
    types: &LedgerTypeRegistry,
    mut on_progress: impl FnMut(LedgerCheckProgress<'_>),
) -> Result<LedgerCheckReport> {
    let catalogue = types.current();
    let mut report = LedgerCheckReport::default();
    let mut duplicates = DuplicateEventKeys::find_duplicates(shards, &mut on_progress).await?;
    for shard in shards.all() {
        check_shard(shard, shards, &catalogue, &mut duplicates, &mut report, &mut on_progress)
            .await?;
    }
    duplicates.add_to_report(&mut report);
    Ok(report)
}
