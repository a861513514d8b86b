//! `ledger check`: everything recomputed from the raw events. Numbers have no gap and every event has one place in them;
//! each event says what its writer said (the hash kept with its key); each account lies where it belongs; each sum is
//! that of its events; what is kept twice is the same; and no id was used under two shard keys.
//!
//! Each shard is read as it was at one moment, while everybody goes on; memory does not grow with the history but for the
//! sums of one account at a time.

mod account;
mod contents;
mod copies;
mod numbers;
mod report;
mod rows;
mod shard;
mod snapshot;
mod twice;

pub use report::{Difference, Kind, Report, ShardReport};
use shard::check_shard;
use store::Result;
use twice::Twice;

use crate::sharding::Shards;
use crate::types::Types;

/// How far a check has come.
#[derive(Debug, Clone, Copy)]
pub struct Advance<'a> {
    /// What is being checked: `ids`, or a shard.
    pub stage: &'a str,
    /// Events done in this stage.
    pub done: i64,
    /// Events that there are in this stage.
    pub all: i64,
}

/// Checks every shard; `advanced` hears how far it has come. Reads only.
pub async fn check(shards: &Shards, types: &Types, mut advanced: impl FnMut(Advance<'_>)) -> Result<Report> {
    let catalogue = types.now();
    let mut report = Report::default();
    let mut twice = Twice::find(shards, &mut advanced).await?;
    for shard in shards.all() {
        check_shard(shard, shards, &catalogue, &mut twice, &mut report, &mut advanced).await?;
    }
    twice.report(&mut report);
    Ok(report)
}
