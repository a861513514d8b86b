//! Check of one account: its id, its shard and its aggregates.

use super::report::{LedgerCheckKind, LedgerCheckReport};
use super::rows::{LedgerCheckEventRow, LedgerCheckSumRow};
use crate::aggregates::{AggregateLevel, AggregateRecount, AggregateRow, Grouping};
use crate::events::intern_account;
use crate::ids::AccountId;
use crate::sharding::{LedgerShards, Shard, ShardHash, encode_canonical, parse_canonical};
use crate::types::LedgerTypeCatalogue;

/// An account whose rows are being read.
pub(super) struct LedgerCheckAccount<'g> {
    /// Type and key attributes.
    display_name: String,
    recount: AggregateRecount<'g>,
    stored_rows: Vec<AggregateRow>,
    problems: Vec<String>,
    has_events: bool,
}

/// Context shared by all accounts of a shard.
pub(super) struct LedgerCheckContext<'g> {
    pub(super) shard: &'g Shard,
    pub(super) shards: &'g LedgerShards,
    pub(super) types: &'g LedgerTypeCatalogue,
    pub(super) groupings: &'g [Grouping],
    pub(super) horizon: Option<chrono::DateTime<chrono::Utc>>,
}

impl<'g> LedgerCheckAccount<'g> {
    pub(super) fn new(
        context: &LedgerCheckContext<'g>,
        id: AccountId,
        account_name: Option<(&str, &str)>,
        report: &mut LedgerCheckReport,
    ) -> Self {
        let (type_name, attributes) = account_name.unwrap_or_default();
        let name = match attributes {
            "" => format!("{type_name} (account {id})"),
            attributes => format!("{type_name} {attributes}"),
        };
        if let Some(what) = account_name.and_then(|(type_name, attributes)| {
            describe_misplacement(context, id, type_name, attributes)
        }) {
            report.add_difference(
                Some(&context.shard.name),
                LedgerCheckKind::Placement,
                format!("{name}: {what}"),
            );
        }
        let recount =
            AggregateRecount::for_account_type(type_name, context.groupings, context.horizon);
        Self {
            display_name: name,
            recount,
            stored_rows: Vec::new(),
            problems: Vec::new(),
            has_events: false,
        }
    }

    pub(super) fn add_event(&mut self, event: &LedgerCheckEventRow) {
        self.has_events = true;
        // Other checks report events without a valid amount or sequence number.
        if let (Some(sum), Some(tuple), Some(seq)) = (event.to_sum(), &event.tuple, event.seq) {
            self.recount.add_event(tuple, event.dt, seq, sum);
        }
    }

    pub(super) fn add_closing_row(&mut self, row: &LedgerCheckSumRow) {
        match (row.to_sum(), &row.tuple) {
            (Some(sum), Some(tuple)) => self.recount.add_closing_sum(tuple, sum),
            _ => self.problems.push(
                "a closing balance is no sum of amounts, or of attributes that are not there"
                    .to_owned(),
            ),
        }
    }

    pub(super) fn add_sum_row(&mut self, row: &LedgerCheckSumRow) {
        let level = row.level.as_deref().and_then(AggregateLevel::from_letter);
        match (row.to_sum(), row.grouping_id, level, row.period, &row.tuple) {
            (Some(sum), Some(grouping), Some(level), Some(period), Some(group)) => {
                self.stored_rows.push(AggregateRow {
                    grouping_id: grouping,
                    level,
                    period_start: period,
                    group: group.clone(),
                    sum,
                });
            }
            _ => self.problems.push(
                "a kept sum is no sum of amounts, or of attributes that are not there".to_owned(),
            ),
        }
    }

    /// Compares and reports; returns whether the account has events.
    pub(super) fn report_differences(self, shard: &str, report: &mut LedgerCheckReport) -> bool {
        let problems =
            self.problems.into_iter().chain(self.recount.find_differences(&self.stored_rows));
        for what in problems {
            report.add_difference(
                Some(shard),
                LedgerCheckKind::Sums,
                format!("{}: {what}", self.display_name),
            );
        }
        self.has_events
    }
}

/// Describes a wrong account id or shard; `None` if both are correct.
fn describe_misplacement(
    context: &LedgerCheckContext<'_>,
    id: AccountId,
    type_name: &str,
    attributes: &str,
) -> Option<String> {
    if intern_account(type_name, attributes.to_owned()).id != id {
        return Some(format!("its id {id} is another account's"));
    }
    let hash = hash_shard_key(context, type_name, attributes)?;
    let owner = &context.shards.shard_of_hash(hash).name;
    (*owner != context.shard.name).then(|| format!("belongs to shard {owner}"))
}

/// Shard hash of an account's key attributes; `None` for a deleted type, whose shard key is unknown.
pub(super) fn hash_shard_key(
    context: &LedgerCheckContext<'_>,
    type_name: &str,
    attributes: &str,
) -> Option<ShardHash> {
    let account_type = context.types.accounts.get(type_name)?;
    let mut key = parse_canonical(attributes);
    key.retain(|(name, _)| account_type.shard_key.contains(name));
    let canonical =
        encode_canonical(key.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    Some(ShardHash::from_shard_key(&canonical))
}
