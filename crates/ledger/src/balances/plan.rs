//! Plan of a balance: the grouping whose aggregates are read, and the period boundaries.

use chrono::{DateTime, Utc};
use store::PgStatement;

use super::BalanceQuery;
use crate::aggregates::{BalanceCutOffs, compute_cut_offs};
use crate::ids::AccountId;
use crate::types::{AccountType, AggregateInterval, find_serving_grouping};

/// Above this many unaggregated events in the shard, the
/// account's events are read instead of the aggregates.
const MAX_AGGREGATE_LAG: i64 = 100_000;

#[derive(Debug)]
pub(super) struct BalancePlan {
    account_id: AccountId,
    type_name: String,
    /// Attribute names of the grouping to read, joined by commas.
    pub(super) grouping_names: String,
    pub(super) interval: AggregateInterval,
    pub(super) to_cut_offs: BalanceCutOffs,
    to_moment: DateTime<Utc>,
    from: Option<(BalanceCutOffs, DateTime<Utc>)>,
}

impl BalancePlan {
    pub(super) fn for_query(account_type: &AccountType, balance_query: &BalanceQuery) -> Self {
        let attribute_names =
            balance_query.filter.keys().chain(&balance_query.group_by).map(String::as_str);
        Self {
            account_id: balance_query.account_id,
            type_name: account_type.name.clone(),
            grouping_names: find_serving_grouping(
                account_type,
                &attribute_names.collect::<Vec<_>>(),
            ),
            interval: account_type.aggregate,
            to_cut_offs: compute_cut_offs(account_type.aggregate, balance_query.to),
            to_moment: balance_query.to,
            from: balance_query
                .from
                .map(|from| (compute_cut_offs(account_type.aggregate, from), from)),
        }
    }

    /// Binds the arguments of `account_parts` as $1 to $10, and those of its second call, for
    /// `from`, as $11 to $15.
    pub(super) fn bind_account_parts(&self, statement: PgStatement) -> PgStatement {
        let from_cut_offs = self.from.map(|(cut, _)| cut);
        statement
            .bind(self.account_id)
            .bind(&self.type_name)
            .bind(&self.grouping_names)
            .bind(self.interval.name())
            .bind(self.to_cut_offs.year)
            .bind(self.to_cut_offs.month)
            .bind(self.to_cut_offs.day)
            .bind(self.to_cut_offs.cut_off)
            .bind(self.to_moment)
            .bind(MAX_AGGREGATE_LAG)
            .bind(from_cut_offs.map(|cut| cut.year))
            .bind(from_cut_offs.map(|cut| cut.month))
            .bind(from_cut_offs.map(|cut| cut.day))
            .bind(from_cut_offs.map(|cut| cut.cut_off))
            .bind(self.from.map(|(_, from)| from))
    }
}
