//! Recount of an account's aggregates from its events, for `ledger check`: pure functions.
//!
//! The finest periods are compared with the events, and each longer period with the shorter ones
//! within it. Events before the horizon are dropped; only their total is known and compared.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};

use super::fold::{AggregateSum, Grouping, HourlySum, fold_hourly_sums, format_units};
use super::periods::AggregateLevel;
use crate::ids::{AccountId, SequenceNumber};
use crate::moment;

/// A row of `aggregates`.
#[derive(Debug, Clone)]
pub(crate) struct AggregateRow {
    pub(crate) grouping_id: i32,
    pub(crate) level: AggregateLevel,
    pub(crate) period_start: DateTime<Utc>,
    /// Values of the grouping's attributes, in canonical text.
    pub(crate) group: String,
    pub(crate) sum: AggregateSum,
}

/// Collected events of one account.
pub(crate) struct AggregateRecount<'g> {
    /// Groupings of the account's type.
    groupings: Vec<&'g Grouping>,
    horizon: Option<DateTime<Utc>>,
    /// Distinct `aggregated_seq` of the groupings, ascending.
    aggregated_seqs: Vec<SequenceNumber>,
    /// By (index of the first `aggregated_seqs` at or above
    /// the event's number, attribute set, hour).
    hourly_sums: HashMap<(usize, String, DateTime<Utc>), AggregateSum>,
}

/// Sums by (grouping, period, group).
type AggregateSumMap = BTreeMap<(i32, DateTime<Utc>, String), AggregateSum>;

impl<'g> AggregateRecount<'g> {
    /// An empty recount for an account of this type.
    pub(crate) fn for_account_type(
        type_name: &str,
        groupings: &'g [Grouping],
        horizon: Option<DateTime<Utc>>,
    ) -> Self {
        let groupings: Vec<&Grouping> =
            groupings.iter().filter(|g| g.type_name == type_name).collect();
        let mut aggregated_seqs: Vec<SequenceNumber> =
            groupings.iter().map(|grouping| grouping.aggregated_seq).collect();
        aggregated_seqs.sort_unstable();
        aggregated_seqs.dedup();
        Self { groupings, horizon, aggregated_seqs, hourly_sums: HashMap::new() }
    }

    /// Adds an event with its sequence number.
    pub(crate) fn add_event(
        &mut self,
        attribute_set: &str,
        moment: DateTime<Utc>,
        seq: SequenceNumber,
        sum: AggregateSum,
    ) {
        let mark_index = self.aggregated_seqs.partition_point(|mark| *mark < seq);
        if mark_index < self.aggregated_seqs.len() {
            self.hourly_sums
                .entry((
                    mark_index,
                    attribute_set.to_owned(),
                    AggregateLevel::Hour.period_start(moment),
                ))
                .or_default()
                .add(sum);
        }
    }

    /// Adds the closing balance of the account's dropped events. A grouping with `aggregated_seq` 0
    /// does not include it.
    pub(crate) fn add_closing_sum(&mut self, attribute_set: &str, sum: AggregateSum) {
        let moment = match self.horizon {
            Some(horizon) => horizon - TimeDelta::hours(1),
            None => DateTime::UNIX_EPOCH,
        };
        self.add_event(attribute_set, moment, SequenceNumber::FIRST, sum);
    }

    /// Differences between the stored and the recounted aggregates.
    pub(crate) fn find_differences(self, stored_rows: &[AggregateRow]) -> Vec<String> {
        let mut differences = Vec::new();
        let expected = self.compute_expected_sums();
        for grouping in &self.groupings {
            let levels = AggregateLevel::levels_for(grouping.interval);
            for pair in levels.windows(2) {
                let [coarse, fine] = pair else { continue };
                let stored = collect_stored_sums(stored_rows, grouping.id, *coarse);
                let parts = collect_stored_sums(stored_rows, grouping.id, *fine).into_iter();
                let parts = add_up_sums(
                    parts.map(|((id, at, group), sum)| ((id, coarse.period_start(at), group), sum)),
                );
                let source = fine.plural_name();
                compare_sums(grouping, *coarse, &stored, &parts, source, &mut differences);
            }
            if let Some(finest) = levels.last() {
                let expected = expected.iter().filter(|(key, _)| key.0 == grouping.id);
                let expected =
                    self.merge_before_horizon(expected.map(|(key, sum)| (key.clone(), *sum)));
                let stored = collect_stored_sums(stored_rows, grouping.id, *finest);
                let stored = self.merge_before_horizon(stored.into_iter());
                compare_sums(grouping, *finest, &stored, &expected, "events", &mut differences);
            }
        }
        differences
    }

    /// Merges all periods before the horizon into one.
    fn merge_before_horizon(
        &self,
        sums: impl Iterator<Item = ((i32, DateTime<Utc>, String), AggregateSum)>,
    ) -> AggregateSumMap {
        // Without a horizon, no period lies before it.
        let horizon = self.horizon.unwrap_or(DateTime::<Utc>::MIN_UTC);
        add_up_sums(sums.map(|((id, at, group), sum)| {
            let period = if at < horizon { DateTime::<Utc>::MIN_UTC } else { at };
            ((id, period, group), sum)
        }))
    }

    /// Expected sums of the finest periods.
    fn compute_expected_sums(&self) -> AggregateSumMap {
        let mut expected = AggregateSumMap::new();
        for (mark_index, mark) in self.aggregated_seqs.iter().enumerate() {
            let hourly: Vec<HourlySum> = self
                .hourly_sums
                .iter()
                .filter(|(key, _)| key.0 == mark_index)
                .map(to_hourly_sum)
                .collect();
            let groupings =
                self.groupings.iter().filter(|grouping| grouping.aggregated_seq >= *mark);
            for grouping in groupings {
                let folded = fold_hourly_sums(
                    &hourly,
                    &[Grouping { type_name: String::new(), ..(*grouping).clone() }],
                );
                let finest = AggregateLevel::levels_for(grouping.interval).last();
                for (key, sum) in folded.sums.iter().filter(|(key, _)| Some(&key.level) == finest) {
                    let group = folded
                        .groups
                        .get(&key.group_id)
                        .map(|group| group.canonical.clone())
                        .unwrap_or_default();
                    expected
                        .entry((key.grouping_id, key.period_start, group))
                        .or_default()
                        .add(*sum);
                }
            }
        }
        expected
    }
}

fn to_hourly_sum(
    ((_, attribute_set, hour), sum): (&(usize, String, DateTime<Utc>), &AggregateSum),
) -> HourlySum {
    HourlySum {
        type_name: String::new(),
        account_id: AccountId(0),
        attribute_set: attribute_set.clone(),
        hour: *hour,
        sum: *sum,
    }
}

/// Sums of a grouping's stored rows of one level.
fn collect_stored_sums(
    stored_rows: &[AggregateRow],
    grouping_id: i32,
    level: AggregateLevel,
) -> AggregateSumMap {
    let rows = stored_rows.iter().filter(|k| k.grouping_id == grouping_id && k.level == level);
    add_up_sums(
        rows.map(|kept| ((kept.grouping_id, kept.period_start, kept.group.clone()), kept.sum)),
    )
}

fn add_up_sums(
    sums: impl Iterator<Item = ((i32, DateTime<Utc>, String), AggregateSum)>,
) -> AggregateSumMap {
    let mut totals = AggregateSumMap::new();
    for (key, sum) in sums {
        totals.entry(key).or_default().add(sum);
    }
    totals
}

/// Describes the keys at which `stored` and `expected` differ.
fn compare_sums(
    grouping: &Grouping,
    level: AggregateLevel,
    stored: &AggregateSumMap,
    expected: &AggregateSumMap,
    source: &str,
    differences: &mut Vec<String>,
) {
    let keys = stored.keys().chain(expected.keys().filter(|key| !stored.contains_key(*key)));
    for key in keys {
        let [kept, expected] =
            [stored, expected].map(|sums| sums.get(key).copied().unwrap_or_default());
        if kept != expected {
            let by = match grouping.attributes.join(", ") {
                names if names.is_empty() => "in all".to_owned(),
                names => format!("by {names} ({})", key.2),
            };
            let period = if key.1 == DateTime::<Utc>::MIN_UTC {
                "before the horizon".to_owned()
            } else {
                format!("{} of {}", level.name(), moment::format_moment(key.1))
            };
            differences.push(format!(
                "{by}, {period}: kept are {}; its {source} say {}",
                format_sum(kept),
                format_sum(expected)
            ));
        }
    }
}

fn format_sum(AggregateSum { debit, credit, event_count: events }: AggregateSum) -> String {
    format!("debit {}, credit {} of {events} events", format_units(debit), format_units(credit))
}
