//! Aggregation periods in UTC: years, months, days, hours.

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveTime, Timelike as _, Utc};

use crate::types::AggregateInterval;

/// Length of a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AggregateLevel {
    Year,
    Month,
    Day,
    Hour,
}

impl AggregateLevel {
    /// The stored letter.
    pub(super) fn letter(self) -> &'static str {
        match self {
            AggregateLevel::Year => "y",
            AggregateLevel::Month => "m",
            AggregateLevel::Day => "d",
            AggregateLevel::Hour => "h",
        }
    }

    /// Parses the stored letter.
    pub(crate) fn from_letter(letter: &str) -> Option<Self> {
        [Self::Year, Self::Month, Self::Day, Self::Hour]
            .into_iter()
            .find(|level| level.letter() == letter)
    }

    /// Singular name for messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            AggregateLevel::Year => "the year",
            AggregateLevel::Month => "the month",
            AggregateLevel::Day => "the day",
            AggregateLevel::Hour => "the hour",
        }
    }

    /// Plural name for messages.
    pub(super) fn plural_name(self) -> &'static str {
        match self {
            AggregateLevel::Year => "years",
            AggregateLevel::Month => "months",
            AggregateLevel::Day => "days",
            AggregateLevel::Hour => "hours",
        }
    }

    /// The levels that are aggregated for an interval.
    pub(super) fn levels_for(interval: AggregateInterval) -> &'static [AggregateLevel] {
        match interval {
            AggregateInterval::Month => &[AggregateLevel::Year, AggregateLevel::Month],
            AggregateInterval::Day => {
                &[AggregateLevel::Year, AggregateLevel::Month, AggregateLevel::Day]
            }
            AggregateInterval::Hour => &[
                AggregateLevel::Year,
                AggregateLevel::Month,
                AggregateLevel::Day,
                AggregateLevel::Hour,
            ],
        }
    }

    /// Start of the period that contains `moment`.
    pub(super) fn period_start(self, moment: DateTime<Utc>) -> DateTime<Utc> {
        let date = moment.date_naive();
        let (day, hour) = match self {
            AggregateLevel::Year => (find_month_start(date, 1), 0),
            AggregateLevel::Month => (find_month_start(date, date.month()), 0),
            AggregateLevel::Day => (date, 0),
            AggregateLevel::Hour => (date, moment.hour()),
        };
        let time = NaiveTime::from_hms_opt(hour, 0, 0).unwrap_or(NaiveTime::MIN);
        day.and_time(time).and_utc()
    }
}

/// First day of a month in the year of `date`.
fn find_month_start(date: NaiveDate, month: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(date.year(), month, 1).unwrap_or(date)
}

/// Boundaries of the periods that add up to a balance: years before `year`, then months before
/// `month`, days before `day`, hours before `cut_off`. Single events follow from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BalanceCutOffs {
    pub(crate) year: DateTime<Utc>,
    pub(crate) month: DateTime<Utc>,
    pub(crate) day: DateTime<Utc>,
    pub(crate) cut_off: DateTime<Utc>,
}

/// Boundaries for a balance at `moment`.
pub(crate) fn compute_cut_offs(
    interval: AggregateInterval,
    moment: DateTime<Utc>,
) -> BalanceCutOffs {
    let finest =
        AggregateLevel::levels_for(interval).last().copied().unwrap_or(AggregateLevel::Month);
    let cut_off = finest.period_start(moment);
    let [year, month, day] = [AggregateLevel::Year, AggregateLevel::Month, AggregateLevel::Day]
        .map(|level| level.period_start(cut_off));
    BalanceCutOffs { year, month, day, cut_off }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn periods_meet_without_gap_or_overlap() {
        let cases = [
            (AggregateInterval::Hour, "2024-02-29T23:59:59.999999Z", "2024-02-29T23:00:00Z"),
            (AggregateInterval::Day, "2024-02-29T23:59:59.999999Z", "2024-02-29T00:00:00Z"),
            (AggregateInterval::Day, "2024-03-01T00:00:00Z", "2024-03-01T00:00:00Z"),
            (AggregateInterval::Month, "2024-12-31T00:00:00Z", "2024-12-01T00:00:00Z"),
            (AggregateInterval::Day, "2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        ];
        for (interval, moment, cut_off) in cases {
            let found = compute_cut_offs(interval, at(moment));
            assert_eq!(found.cut_off, at(cut_off), "{interval:?} {moment}");
            assert!(
                found.year <= found.month && found.month <= found.day && found.day <= found.cut_off
            );
            assert_eq!(found.year, AggregateLevel::Year.period_start(found.cut_off));
        }
    }
}
