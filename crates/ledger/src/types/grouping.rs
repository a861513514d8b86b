//! Groupings of account types: the attributes that balances are added up by.

use super::{AccountType, AggregateInterval, LedgerTypeCatalogue};

impl AggregateInterval {
    /// The stored name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            AggregateInterval::Hour => "hour",
            AggregateInterval::Day => "day",
            AggregateInterval::Month => "month",
        }
    }

    /// Parses the stored name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Hour, Self::Day, Self::Month].into_iter().find(|interval| interval.name() == name)
    }
}

/// Groupings of a type, each as its sorted attribute names joined by commas; the empty one first.
fn list_grouping_names(account_type: &AccountType) -> Vec<String> {
    let named = account_type
        .groupings
        .iter()
        .map(|grouping| join_sorted_names(grouping.iter().map(String::as_str)));
    let mut all: Vec<String> = std::iter::once(String::new()).chain(named).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// All configured groupings, as arrays of type, attributes and interval.
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

/// The smallest grouping that contains all these attributes.
pub(crate) fn find_serving_grouping(
    account_type: &AccountType,
    attribute_names: &[&str],
) -> String {
    if attribute_names.is_empty() {
        return String::new();
    }
    let serving = account_type
        .groupings
        .iter()
        .filter(|grouping| contains_all_names(grouping, attribute_names));
    match serving.min_by_key(|grouping| grouping.len()) {
        Some(smallest) => join_sorted_names(smallest.iter().map(String::as_str)),
        None => String::new(),
    }
}

fn contains_all_names(grouping: &[String], names: &[&str]) -> bool {
    names.iter().all(|name| grouping.iter().any(|own| own == name))
}

fn join_sorted_names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.join(",")
}
