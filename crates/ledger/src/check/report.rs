//! Report of a check.

use serde::Serialize;

use crate::ids::SequenceNumber;

/// Maximum number of differences listed in a report.
const MAX_REPORTED_DIFFERENCES: usize = 100;

/// Result of a check over all shards.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LedgerCheckReport {
    /// One report per shard, in the order of the shard map.
    pub shards: Vec<ShardCheckReport>,
    /// Total number of differences; 0 in a consistent ledger.
    pub difference_count: usize,
    /// The first 100 differences.
    pub differences: Vec<LedgerCheckDifference>,
}

/// Counts of one checked shard.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ShardCheckReport {
    /// Name of the shard.
    pub shard: String,
    /// Number of stored events.
    pub events: i64,
    /// Number of accounts with events.
    pub accounts: i64,
    /// Number of rows of `aggregates`.
    pub sums: i64,
    /// Last assigned sequence number.
    pub last_seq: SequenceNumber,
}

/// One inconsistency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LedgerCheckDifference {
    /// Name of the shard; `None` for a difference between shards.
    pub shard: Option<String>,
    /// Category of the difference.
    pub kind: LedgerCheckKind,
    /// Description of the inconsistency.
    pub what: String,
}

/// Category of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LedgerCheckKind {
    /// Sequence numbers and their assignment to events.
    Numbers,
    /// Content of an event, attribute set or state.
    Content,
    /// Shard or id of an account.
    Placement,
    /// Aggregates and closing balances.
    Sums,
    /// One event id under two shard keys: a client error.
    RepeatedId,
}

impl LedgerCheckKind {
    /// The name in reports.
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
    /// Whether the ledger is consistent.
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

    /// Counts differences beyond those listed.
    pub(super) fn count_unreported(&mut self, count: usize) {
        self.difference_count += count;
    }
}
