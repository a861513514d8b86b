//! What a check has found.

use serde::Serialize;

/// So many differences are named.
const MAX_REPORTED_DIFFERENCES: usize = 100;

/// What a check has found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LedgerCheckReport {
    /// By shard, in the map's order.
    pub shards: Vec<ShardCheckReport>,
    /// How many differences there are; none in a sound ledger.
    pub difference_count: usize,
    /// The first hundred of them.
    pub differences: Vec<LedgerCheckDifference>,
}

/// What was read of one shard.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ShardCheckReport {
    /// Which.
    pub shard: String,
    /// Events that are there.
    pub events: i64,
    /// Accounts with events.
    pub accounts: i64,
    /// Kept sums.
    pub sums: i64,
    /// The last number given.
    pub last_seq: i64,
}

/// One thing that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LedgerCheckDifference {
    /// The shard; `None`: it is between shards.
    pub shard: Option<String>,
    /// Of what kind.
    pub kind: LedgerCheckKind,
    /// What is wrong, in words.
    pub what: String,
}

/// What a difference is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LedgerCheckKind {
    /// Sequence numbers, and which events have them.
    Numbers,
    /// An event's content.
    Content,
    /// Where an account lies.
    Placement,
    /// Kept sums.
    Sums,
    /// One event id under two shard keys: an error of whoever wrote it.
    RepeatedId,
}

impl LedgerCheckKind {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            LedgerCheckKind::Numbers => "numbers",
            LedgerCheckKind::Content => "content",
            LedgerCheckKind::Placement => "placement",
            LedgerCheckKind::Sums => "sums",
            LedgerCheckKind::RepeatedId => "repeated_id",
        }
    }
}

impl LedgerCheckReport {
    /// Whether nothing is wrong.
    pub fn has_no_differences(&self) -> bool {
        self.difference_count == 0
    }

    pub(super) fn add_difference(
        &mut self,
        shard: Option<&str>,
        kind: LedgerCheckKind,
        what: String,
    ) {
        self.difference_count += 1;
        if self.differences.len() < MAX_REPORTED_DIFFERENCES {
            self.differences.push(LedgerCheckDifference {
                shard: shard.map(str::to_owned),
                kind,
                what,
            });
        }
    }

    /// Counts differences that nobody names.
    pub(super) fn count_unreported(&mut self, count: usize) {
        self.difference_count += count;
    }
}
