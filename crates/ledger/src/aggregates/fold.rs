//! Fold of hourly sums into aggregate deltas: pure functions.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};

use super::periods::AggregateLevel;
use crate::events::{InternedText, intern_attribute_set};
use crate::ids::{AccountId, AttributeSetId, SequenceNumber};
use crate::sharding::{encode_canonical, parse_canonical};
use crate::types::AggregateInterval;

/// A row of `groupings`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grouping {
    pub(crate) id: i32,
    pub(crate) type_name: String,
    pub(crate) attributes: Vec<String>,
    pub(crate) interval: AggregateInterval,
    /// The aggregates include every event up to this sequence number.
    pub(crate) aggregated_seq: SequenceNumber,
}

/// Columns of `groupings`.
#[derive(store::FromRow)]
pub(crate) struct GroupingRow {
    grouping_id: i32,
    #[sqlx(rename = "type")]
    type_name: String,
    /// Joined by commas.
    attributes: String,
    interval: String,
    aggregated_seq: SequenceNumber,
}

impl Grouping {
    /// `None` if this version does not know the interval.
    pub(crate) fn from_row(row: GroupingRow) -> Option<Self> {
        let GroupingRow { grouping_id: id, type_name, attributes, interval, aggregated_seq } = row;
        let interval = AggregateInterval::from_name(&interval)?;
        let names = attributes.split(',').filter(|name| !name.is_empty());
        let attributes = names.map(str::to_owned).collect();
        Some(Self { id, type_name, attributes, interval, aggregated_seq })
    }
}

/// Sum of the events of one account, attribute set and hour.
#[derive(Debug, Clone)]
pub(super) struct HourlySum {
    pub(super) type_name: String,
    pub(super) account_id: AccountId,
    pub(super) attribute_set: String,
    pub(super) hour: DateTime<Utc>,
    pub(super) sum: AggregateSum,
}

/// Debit and credit in units of 10^-9, and the number of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct AggregateSum {
    pub(crate) debit: i128,
    pub(crate) credit: i128,
    pub(crate) event_count: i64,
}

impl AggregateSum {
    pub(super) fn add(&mut self, other: Self) {
        self.debit += other.debit;
        self.credit += other.credit;
        self.event_count += other.event_count;
    }
}

/// Key of a row of `aggregates`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AggregateKey {
    pub(super) account_id: AccountId,
    pub(super) grouping_id: i32,
    pub(super) level: AggregateLevel,
    pub(super) period_start: DateTime<Utc>,
    pub(super) group_id: AttributeSetId,
}

/// Changes to apply to `aggregates`.
#[derive(Debug, Default)]
pub(super) struct AggregateDeltas {
    /// Sums by row, sorted by key, each key once.
    pub(super) sums: Vec<(AggregateKey, AggregateSum)>,
    /// Groups referenced by the keys, by id.
    pub(super) groups: BTreeMap<AttributeSetId, InternedText<AttributeSetId>>,
}

/// Folds sums into the groupings of their types: first into the shortest periods, then those sums,
/// which are fewer, into the longer periods.
pub(super) fn fold_hourly_sums(
    hourly_sums: &[HourlySum],
    groupings: &[Grouping],
) -> AggregateDeltas {
    let mut groups = BTreeMap::new();
    let mut groupings_by_attribute_set: HashMap<(&str, &str), Vec<(&Grouping, AttributeSetId)>> =
        HashMap::new();
    let mut shortest: BTreeMap<AggregateLevel, Vec<(AggregateKey, AggregateSum)>> = BTreeMap::new();
    for row in hourly_sums {
        let row_groupings = groupings_by_attribute_set
            .entry((&row.type_name, &row.attribute_set))
            .or_insert_with(|| find_row_groups(row, groupings, &mut groups));
        for (grouping, group) in row_groupings {
            let Some(&level) = AggregateLevel::levels_for(grouping.interval).last() else {
                continue;
            };
            let key = AggregateKey {
                account_id: row.account_id,
                grouping_id: grouping.id,
                level,
                period_start: level.period_start(row.hour),
                group_id: *group,
            };
            shortest.entry(level).or_default().push((key, row.sum));
        }
    }
    let mut sums = Vec::new();
    for (level, mut parts) in shortest {
        merge_sums(&mut parts);
        for longer in [AggregateLevel::Year, AggregateLevel::Month, AggregateLevel::Day]
            .into_iter()
            .filter(|longer| *longer < level)
        {
            sums.extend(parts.iter().map(|(key, sum)| (lengthen_period(*key, longer), *sum)));
        }
        sums.append(&mut parts);
    }
    merge_sums(&mut sums);
    AggregateDeltas { sums, groups }
}

/// The groupings of the row's type, each with the id of the row's group; adds the groups to
/// `groups`.
fn find_row_groups<'g>(
    row: &HourlySum,
    groupings: &'g [Grouping],
    groups: &mut BTreeMap<AttributeSetId, InternedText<AttributeSetId>>,
) -> Vec<(&'g Grouping, AttributeSetId)> {
    let mut row_groups = Vec::new();
    for grouping in groupings.iter().filter(|grouping| grouping.type_name == row.type_name) {
        let group = project_attribute_set(&row.attribute_set, &grouping.attributes);
        row_groups.push((grouping, group.id));
        groups.insert(group.id, group);
    }
    row_groups
}

/// The key of the longer period that contains the key's period.
fn lengthen_period(key: AggregateKey, level: AggregateLevel) -> AggregateKey {
    AggregateKey { level, period_start: level.period_start(key.period_start), ..key }
}

/// Sorts by key and merges equal keys.
fn merge_sums(parts: &mut Vec<(AggregateKey, AggregateSum)>) {
    parts.sort_unstable_by_key(|(key, _)| *key);
    parts.dedup_by(|(key, sum), (previous_key, total)| {
        let same = key == previous_key;
        if same {
            total.add(*sum);
        }
        same
    });
}

/// The attributes of an attribute set that belong to a grouping.
fn project_attribute_set(attribute_set: &str, names: &[String]) -> InternedText<AttributeSetId> {
    let mut values = parse_canonical(attribute_set);
    values.retain(|(name, _)| names.contains(name));
    intern_attribute_set(encode_canonical(
        values.iter().map(|(name, value)| (name.as_str(), value.as_str())),
    ))
}

/// Units of 10^-9 as a decimal.
pub(super) fn format_units(units: i128) -> String {
    let (whole, fraction) = (units / 1_000_000_000, units % 1_000_000_000);
    if fraction == 0 { whole.to_string() } else { format!("{whole}.{fraction:09}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grouping(id: i32, attributes: &[&str]) -> Grouping {
        let attributes = attributes.iter().map(|name| (*name).to_owned()).collect();
        Grouping {
            id,
            type_name: "t".to_owned(),
            attributes,
            interval: AggregateInterval::Day,
            aggregated_seq: SequenceNumber::ZERO,
        }
    }

    #[test]
    fn each_event_is_in_each_grouping_once_at_each_level() {
        let row = |tuple: &str, hour: &str, debit| HourlySum {
            type_name: "t".to_owned(),
            account_id: AccountId(7),
            attribute_set: tuple.to_owned(),
            hour: hour.parse().unwrap(),
            sum: AggregateSum { debit, credit: 1, event_count: 1 },
        };
        let hourly = [
            row("a=1&b=2", "2024-02-29T23:00:00Z", 5),
            row("a=1&b=3", "2024-02-29T00:00:00Z", 7),
            row("b=2", "2024-03-01T00:00:00Z", 11),
            HourlySum { type_name: "other".to_owned(), ..row("", "2024-03-01T00:00:00Z", 100) },
        ];
        let folded = fold_hourly_sums(&hourly, &[grouping(1, &[]), grouping(2, &["a"])]);
        let of = |grouping, level| {
            let mut sums: Vec<_> = folded
                .sums
                .iter()
                .filter(|(key, _)| key.grouping_id == grouping && key.level == level)
                .map(|(key, sum)| {
                    let group = folded.groups[&key.group_id].canonical.as_str();
                    (group, (sum.debit, sum.credit, sum.event_count))
                })
                .collect();
            sums.sort_unstable();
            sums
        };
        assert_eq!(of(1, AggregateLevel::Year), [("", (23, 3, 3))]);
        assert_eq!(of(1, AggregateLevel::Day), [("", (11, 1, 1)), ("", (12, 2, 2))]);
        assert_eq!(of(2, AggregateLevel::Month), [("", (11, 1, 1)), ("a=1", (12, 2, 2))]);
        assert!(of(2, AggregateLevel::Hour).is_empty());
    }

    #[test]
    fn decimals_are_exact() {
        let units =
            [0, 1, 1_000_000_000, 1_500_000_000, 999_999_999_999_999_999_999_999 * 1_000_000];
        let texts = ["0", "0.000000001", "1", "1.500000000", "999999999999999999999.999000000"];
        assert_eq!(units.map(format_units), texts.map(str::to_owned));
    }
}
