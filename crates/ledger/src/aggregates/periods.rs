//! Periods in UTC: years, months, days, hours.

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveTime, Timelike as _, Utc};

use crate::types::Interval;

/// The length of a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Year,
    Month,
    Day,
    Hour,
}

impl Level {
    /// As stored.
    pub(super) fn letter(self) -> &'static str {
        match self {
            Level::Year => "y",
            Level::Month => "m",
            Level::Day => "d",
            Level::Hour => "h",
        }
    }

    /// From the letter, as stored.
    pub(crate) fn from_letter(letter: &str) -> Option<Self> {
        [Self::Year, Self::Month, Self::Day, Self::Hour].into_iter().find(|level| level.letter() == letter)
    }

    /// For people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Level::Year => "the year",
            Level::Month => "the month",
            Level::Day => "the day",
            Level::Hour => "the hour",
        }
    }

    /// For people, of several.
    pub(super) fn plural(self) -> &'static str {
        match self {
            Level::Year => "years",
            Level::Month => "months",
            Level::Day => "days",
            Level::Hour => "hours",
        }
    }

    /// The levels whose sums are kept for an interval.
    pub(super) fn of(interval: Interval) -> &'static [Level] {
        match interval {
            Interval::Month => &[Level::Year, Level::Month],
            Interval::Day => &[Level::Year, Level::Month, Level::Day],
            Interval::Hour => &[Level::Year, Level::Month, Level::Day, Level::Hour],
        }
    }

    /// The beginning of the period that `moment` lies in.
    pub(super) fn start(self, moment: DateTime<Utc>) -> DateTime<Utc> {
        let date = moment.date_naive();
        let first = |month, day| NaiveDate::from_ymd_opt(date.year(), month, day).unwrap_or(date);
        match self {
            Level::Year => first(1, 1).and_time(NaiveTime::MIN).and_utc(),
            Level::Month => first(date.month(), 1).and_time(NaiveTime::MIN).and_utc(),
            Level::Day => date.and_time(NaiveTime::MIN).and_utc(),
            Level::Hour => {
                let hour = NaiveTime::from_hms_opt(moment.hour(), 0, 0).unwrap_or(NaiveTime::MIN);
                date.and_time(hour).and_utc()
            }
        }
    }
}

/// Where the periods end that make up a balance: years before `year`, months from there before `month`, days from there
/// before `day`, hours from there before `cut_off`; from there on it is events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CutOffs {
    pub(crate) year: DateTime<Utc>,
    pub(crate) month: DateTime<Utc>,
    pub(crate) day: DateTime<Utc>,
    pub(crate) cut_off: DateTime<Utc>,
}

/// The cut-offs of a balance at `at`.
pub(crate) fn cut_offs(interval: Interval, at: DateTime<Utc>) -> CutOffs {
    let finest = Level::of(interval).last().copied().unwrap_or(Level::Month);
    let cut_off = finest.start(at);
    let [year, month, day] = [Level::Year, Level::Month, Level::Day].map(|level| level.start(cut_off));
    CutOffs { year, month, day, cut_off }
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
            (Interval::Hour, "2024-02-29T23:59:59.999999Z", "2024-02-29T23:00:00Z"),
            (Interval::Day, "2024-02-29T23:59:59.999999Z", "2024-02-29T00:00:00Z"),
            (Interval::Day, "2024-03-01T00:00:00Z", "2024-03-01T00:00:00Z"),
            (Interval::Month, "2024-12-31T00:00:00Z", "2024-12-01T00:00:00Z"),
            (Interval::Day, "2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        ];
        for (interval, moment, cut_off) in cases {
            let found = cut_offs(interval, at(moment));
            assert_eq!(found.cut_off, at(cut_off), "{interval:?} {moment}");
            assert!(found.year <= found.month && found.month <= found.day && found.day <= found.cut_off);
            assert_eq!(found.year, Level::Year.start(found.cut_off));
        }
    }
}
