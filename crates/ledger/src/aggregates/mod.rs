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
pub use pass::pass;
pub(crate) use periods::{CutOffs, Level, cut_offs};
pub(crate) use recount::{Kept, Recount, Sum};

use crate::types::{AccountType, Catalogue, Interval};

/// The duty of whoever aggregates a shard.
pub const DUTY: &str = "aggregator";

impl Interval {
    /// The word, as stored.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Interval::Hour => "hour",
            Interval::Day => "day",
            Interval::Month => "month",
        }
    }

    /// From the word, as stored.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Hour, Self::Day, Self::Month].into_iter().find(|interval| interval.name() == name)
    }
}

/// The groupings that are kept for a type, each as its sorted names joined by commas; the empty one first.
pub(crate) fn kept(kind: &AccountType) -> Vec<String> {
    let named = kind.groupings.iter().map(|grouping| joined(grouping.iter().map(String::as_str)));
    let mut all: Vec<String> = std::iter::once(String::new()).chain(named).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// All groupings that are kept, as arrays of type, attributes and interval.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) types: Vec<String>,
    pub(crate) attributes: Vec<String>,
    pub(crate) intervals: Vec<&'static str>,
}

impl Wanted {
    pub(crate) fn of(catalogue: &Catalogue) -> Self {
        let mut wanted = Self { types: Vec::new(), attributes: Vec::new(), intervals: Vec::new() };
        for kind in catalogue.accounts.values() {
            for attributes in kept(kind) {
                wanted.types.push(kind.name.clone());
                wanted.attributes.push(attributes);
                wanted.intervals.push(kind.aggregate.name());
            }
        }
        wanted
    }
}

/// The kept grouping that serves questions about these attributes: the smallest one that holds them all.
pub(crate) fn serving(kind: &AccountType, names: &[&str]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let holds = |grouping: &&Vec<String>| names.iter().all(|name| grouping.iter().any(|own| own == name));
    let smallest = kind.groupings.iter().filter(holds).min_by_key(|grouping| grouping.len());
    smallest.map(|grouping| joined(grouping.iter().map(String::as_str))).unwrap_or_default()
}

fn joined<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.join(",")
}
