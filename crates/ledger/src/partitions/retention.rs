//! Retention of events, in whole calendar months.

use chrono::{DateTime, Months, Utc};

use crate::moment;

/// How long events are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Retention {
    /// Events are kept for ever.
    #[default]
    Unlimited,
    /// Kept for at least this many months after the event's month.
    Months(u32),
}

impl Retention {
    /// Allowed formats, worded for error messages.
    pub const EXPECTED_FORMAT: &'static str =
        "none, or months or years such as 24months or 2years, at least 1month";

    /// Parses a retention; `None` if the text is invalid.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "none" {
            return Some(Self::Unlimited);
        }
        let digits = text.find(|c: char| !c.is_ascii_digit())?;
        let (count, unit) = text.split_at(digits);
        let months = match unit.trim() {
            "month" | "months" => 1,
            "year" | "years" => 12,
            _ => return None,
        };
        let count = count.parse::<u32>().ok()?.checked_mul(months)?;
        (1..=12_000).contains(&count).then_some(Self::Months(count))
    }

    /// Start of the first month to keep; `None` if all are kept.
    pub fn first_retained_month(self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Unlimited => None,
            Self::Months(count) => moment::month_start(now).checked_sub_months(Months::new(count)),
        }
    }
}

/// The month of `now` and the `months_after` following ones, without months after 2100.
pub(super) fn list_months_ahead(now: DateTime<Utc>, months_after: u32) -> Vec<DateTime<Utc>> {
    let first = moment::month_start(now);
    let months =
        (0..=months_after).filter_map(|offset| first.checked_add_months(Months::new(offset)));
    months.filter(|month| moment::can_have_events(*month)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_retention_is_whole_months() {
        let table = [
            ("none", Some(Retention::Unlimited)),
            ("24months", Some(Retention::Months(24))),
            ("1month", Some(Retention::Months(1))),
            ("2 years", Some(Retention::Months(24))),
            ("1000years", Some(Retention::Months(12_000))),
            ("0months", None),
            ("24", None),
            ("months", None),
            ("90days", None),
            ("-1months", None),
            ("99999999999months", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(Retention::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn the_first_month_that_is_kept() {
        let table = [
            ("2024-02-29T12:00:00Z", 1, "2024-01-01T00:00:00Z"),
            ("2024-03-31T23:59:59Z", 1, "2024-02-01T00:00:00Z"),
            ("2024-03-01T00:00:00Z", 24, "2022-03-01T00:00:00Z"),
        ];
        for (now, months, first) in table {
            assert_eq!(
                Retention::Months(months).first_retained_month(at(now)),
                Some(at(first)),
                "{now}"
            );
        }
        assert_eq!(Retention::Unlimited.first_retained_month(at("2024-02-29T12:00:00Z")), None);
    }

    #[test]
    fn months_ahead_end_with_the_calendar() {
        let months = list_months_ahead(at("2024-11-30T12:00:00Z"), 3);
        let expected = ["2024-11-01", "2024-12-01", "2025-01-01", "2025-02-01"];
        assert_eq!(months, expected.map(|day| at(&format!("{day}T00:00:00Z"))));
        assert_eq!(list_months_ahead(at("2100-11-30T12:00:00Z"), 3).len(), 2);
    }
}
