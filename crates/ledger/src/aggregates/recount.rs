//! What an account's sums must be, from its events: pure. For `ledger check`.
//!
//! The finest periods are held against the events, and each longer period against the shorter ones within it. Events
//! before the horizon are gone: there it is their sum in all that is known, and compared.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};

use super::fold::{Grouping, Hourly, decimal, fold};
use super::periods::Level;
use crate::moment;

/// Debit and credit in units of 10^-9, and how many events they are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sum {
    pub(crate) debit: i128,
    pub(crate) credit: i128,
    pub(crate) events: i64,
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.debit += other.debit;
        self.credit += other.credit;
        self.events += other.events;
    }
}

/// A row of `aggregates`.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) grouping: i32,
    pub(crate) level: Level,
    pub(crate) period: DateTime<Utc>,
    /// The combination of the grouping's attributes, as canonical text.
    pub(crate) group: String,
    pub(crate) sum: Sum,
}

/// One account's events, gathered.
pub(crate) struct Recount<'g> {
    /// Those of the account's type.
    groupings: Vec<&'g Grouping>,
    horizon: Option<DateTime<Utc>>,
    /// How far the groupings have come, each once, ascending.
    marks: Vec<i64>,
    /// By the first mark that an event's number is not above, combination of attributes, and hour.
    hourly: HashMap<(usize, String, DateTime<Utc>), Sum>,
}

/// By grouping, period and group.
type Sums = BTreeMap<(i32, DateTime<Utc>, String), Sum>;

impl<'g> Recount<'g> {
    /// Of an account of this type.
    pub(crate) fn of(type_name: &str, groupings: &'g [Grouping], horizon: Option<DateTime<Utc>>) -> Self {
        let groupings: Vec<&Grouping> = groupings.iter().filter(|g| g.type_name == type_name).collect();
        let mut marks: Vec<i64> = groupings.iter().map(|grouping| grouping.aggregated_seq).collect();
        marks.sort_unstable();
        marks.dedup();
        Self { groupings, horizon, marks, hourly: HashMap::new() }
    }

    /// Takes an event with its number.
    pub(crate) fn event(&mut self, tuple: &str, dt: DateTime<Utc>, seq: i64, sum: Sum) {
        let class = self.marks.partition_point(|mark| *mark < seq);
        if class < self.marks.len() {
            self.hourly.entry((class, tuple.to_owned(), Level::Hour.start(dt))).or_default().add(sum);
        }
    }

    /// Takes what the account's dropped events came to. A grouping that has not begun does not have them.
    pub(crate) fn closing(&mut self, tuple: &str, sum: Sum) {
        let before = |horizon| horizon - TimeDelta::hours(1);
        self.event(tuple, self.horizon.map_or(DateTime::UNIX_EPOCH, before), 1, sum);
    }

    /// What is wrong with the account's sums.
    pub(crate) fn differences(self, kept: &[Kept]) -> Vec<String> {
        let mut differences = Vec::new();
        let expected = self.expected();
        for grouping in &self.groupings {
            let levels = Level::of(grouping.interval);
            let of =
                |level: Level| sums(kept.iter().filter(|k| k.grouping == grouping.id && k.level == level));
            for pair in levels.windows(2) {
                let [coarse, fine] = pair else { continue };
                let parts = of(*fine).into_iter();
                let parts =
                    gathered(parts.map(|((id, at, group), sum)| ((id, coarse.start(at), group), sum)));
                unequal(grouping, *coarse, &of(*coarse), &parts, fine.plural(), &mut differences);
            }
            if let Some(finest) = levels.last() {
                let expected = expected.iter().filter(|(key, _)| key.0 == grouping.id);
                let expected = self.before_horizon(expected.map(|(key, sum)| (key.clone(), *sum)));
                let kept = self.before_horizon(of(*finest).into_iter());
                unequal(grouping, *finest, &kept, &expected, "events", &mut differences);
            }
        }
        differences
    }

    /// All that lies before the horizon as if it were one period.
    fn before_horizon(&self, sums: impl Iterator<Item = ((i32, DateTime<Utc>, String), Sum)>) -> Sums {
        let period = |at: DateTime<Utc>| match self.horizon {
            Some(horizon) if at < horizon => DateTime::<Utc>::MIN_UTC,
            _ => at,
        };
        gathered(sums.map(|((id, at, group), sum)| ((id, period(at), group), sum)))
    }

    /// The sums of the finest periods.
    fn expected(&self) -> Sums {
        let mut expected = Sums::new();
        for (class, mark) in self.marks.iter().enumerate() {
            let hourly: Vec<Hourly> =
                self.hourly.iter().filter(|(key, _)| key.0 == class).map(hourly).collect();
            let groupings = self.groupings.iter().filter(|grouping| grouping.aggregated_seq >= *mark);
            for grouping in groupings {
                let folded = fold(&hourly, &[Grouping { type_name: String::new(), ..(*grouping).clone() }]);
                let finest = Level::of(grouping.interval).last();
                for ((_, id, _, period, group), sum) in
                    folded.sums.iter().filter(|(key, _)| Some(&key.2) == finest)
                {
                    let group =
                        folded.groups.get(group).map(|group| group.canonical.clone()).unwrap_or_default();
                    let sum = Sum { debit: sum.0, credit: sum.1, events: sum.2 };
                    expected.entry((*id, *period, group)).or_default().add(sum);
                }
            }
        }
        expected
    }
}

fn hourly(((_, tuple, hour), sum): (&(usize, String, DateTime<Utc>), &Sum)) -> Hourly {
    Hourly {
        type_name: String::new(),
        account_id: 0,
        tuple: tuple.clone(),
        hour: *hour,
        debit: sum.debit,
        credit: sum.credit,
        events: sum.events,
    }
}

fn sums<'k>(kept: impl Iterator<Item = &'k Kept>) -> Sums {
    gathered(kept.map(|kept| ((kept.grouping, kept.period, kept.group.clone()), kept.sum)))
}

fn gathered(sums: impl Iterator<Item = ((i32, DateTime<Utc>, String), Sum)>) -> Sums {
    let mut gathered = Sums::new();
    for (key, sum) in sums {
        gathered.entry(key).or_default().add(sum);
    }
    gathered
}

/// Says where `kept` and `expected` are not the same.
fn unequal(
    grouping: &Grouping,
    level: Level,
    kept: &Sums,
    expected: &Sums,
    source: &str,
    differences: &mut Vec<String>,
) {
    let keys = kept.keys().chain(expected.keys().filter(|key| !kept.contains_key(*key)));
    for key in keys {
        let [kept, expected] = [kept, expected].map(|sums| sums.get(key).copied().unwrap_or_default());
        if kept != expected {
            let by = match grouping.attributes.join(", ") {
                names if names.is_empty() => "in all".to_owned(),
                names => format!("by {names} ({})", key.2),
            };
            let period = if key.1 == DateTime::<Utc>::MIN_UTC {
                "before the horizon".to_owned()
            } else {
                format!("{} of {}", level.name(), moment::show(key.1))
            };
            differences.push(format!(
                "{by}, {period}: kept are {}; its {source} say {}",
                show(kept),
                show(expected)
            ));
        }
    }
}

fn show(Sum { debit, credit, events }: Sum) -> String {
    format!("debit {}, credit {} of {events} events", decimal(debit), decimal(credit))
}
