//! Aggregates: sums per account, grouping and period, kept from numbered events, each counted once.
//!
//! Kept are turnovers of periods, not balances at dates: a backdated event changes one row of each length of period and
//! is right at every later date. Reading takes the years before a date's, the months before it in its year, and so on:
//! some 200 rows at most, however long the history. What is not aggregated yet is read from the events themselves in the
//! same statement, so that every answer is exact at the moment it is given.

mod aggregator;
mod fold;
mod pass;
mod periods;
mod recount;

pub use aggregator::Aggregator;
pub(crate) use fold::Grouping;
pub use pass::run_aggregation_pass;
pub(crate) use periods::{AggregateLevel, BalanceCutOffs, compute_cut_offs};
pub(crate) use recount::{AggregateRecount, AggregateRow, AggregateSum};

use crate::types::{AccountType, AggregateInterval, LedgerTypeCatalogue};

/// The duty of whoever aggregates a shard.
pub const AGGREGATOR_DUTY: &str = "aggregator";

impl AggregateInterval {
    /// The word, as stored.
    pub(crate) fn name(self) -> &'static str {
        match self {
            AggregateInterval::Hour => "hour",
            AggregateInterval::Day => "day",
            AggregateInterval::Month => "month",
        }
    }

    /// From the word, as stored.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Hour, Self::Day, Self::Month].into_iter().find(|interval| interval.name() == name)
    }
}

/// The groupings that are kept for a type, each as its sorted names joined by commas; the empty one first.
pub(crate) fn list_grouping_names(account_type: &AccountType) -> Vec<String> {
    let named = account_type
        .groupings
        .iter()
        .map(|grouping| join_sorted_names(grouping.iter().map(String::as_str)));
    let mut all: Vec<String> = std::iter::once(String::new()).chain(named).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// All groupings that are kept, as arrays of type, attributes and interval.
#[derive(Debug, Clone)]
pub(crate) struct GroupingColumns {
    pub(crate) types: Vec<String>,
    pub(crate) attributes: Vec<String>,
    pub(crate) intervals: Vec<&'static str>,
}

impl GroupingColumns {
    pub(crate) fn from_catalogue(catalogue: &LedgerTypeCatalogue) -> Self {
        let mut columns = Self { types: Vec::new(), attributes: Vec::new(), intervals: Vec::new() };
        for account_type in catalogue.accounts.values() {
            for attributes in list_grouping_names(account_type) {
                columns.types.push(account_type.name.clone());
                columns.attributes.push(attributes);
                columns.intervals.push(account_type.aggregate.name());
            }
        }
        columns
    }
}

/// The kept grouping that serves questions about these attributes: the smallest one that holds them all.
pub(crate) fn find_serving_grouping(
    account_type: &AccountType,
    attribute_names: &[&str],
) -> String {
    if attribute_names.is_empty() {
        return String::new();
    }
    let has_all_names = |grouping: &&Vec<String>| {
        attribute_names.iter().all(|name| grouping.iter().any(|own| own == name))
    };
    let smallest =
        account_type.groupings.iter().filter(has_all_names).min_by_key(|grouping| grouping.len());
    smallest
        .map(|grouping| join_sorted_names(grouping.iter().map(String::as_str)))
        .unwrap_or_default()
}

fn join_sorted_names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.join(",")
}
