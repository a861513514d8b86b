//! Moments: RFC 3339 with offset, microsecond precision.

use chrono::{DateTime, Datelike as _, SecondsFormat, Timelike as _, Utc};

/// Description of the moment format for error messages.
pub const MOMENT_FORMAT: &str =
    "a time in RFC 3339 with offset and at most microseconds, such as 2024-02-29T12:00:00.5Z";
/// Description of an event time for error messages.
pub const EVENT_TIME_FORMAT: &str = "a time in RFC 3339 with offset and at most microseconds, in the years 1970 to 2100 (UTC), such as 2024-02-29T12:00:00.5Z";

/// Parses a moment; `None` if it is not in the moment format.
pub fn parse_moment(text: &str) -> Option<DateTime<Utc>> {
    // chrono would also accept a space for the `T`.
    if !matches!(text.as_bytes().get(10), Some(b'T' | b't')) {
        return None;
    }
    let moment = DateTime::parse_from_rfc3339(text).ok()?.with_timezone(&Utc);
    // Refuse sub-microsecond digits, which Postgres cannot store, and leap seconds.
    let exact = moment.nanosecond() < 1_000_000_000 && moment.nanosecond().is_multiple_of(1000);
    (exact && has_four_digit_year(moment)).then_some(moment)
}

/// Whether its year is 1 to 9999, which RFC 3339 can express.
pub fn has_four_digit_year(moment: DateTime<Utc>) -> bool {
    (1..=9999).contains(&moment.year())
}

/// Parses an event time: a moment in the years 1970 to 2100.
pub fn parse_event_time(text: &str) -> Option<DateTime<Utc>> {
    parse_moment(text).filter(|moment| can_have_events(*moment))
}

/// Whether events may have this time: the years 1970 to 2100.
pub fn can_have_events(moment: DateTime<Utc>) -> bool {
    (1970..=2100).contains(&moment.year())
}

/// Formats in UTC with 0, 3 or 6 fractional digits, as few as possible.
pub fn format_moment(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// First moment of its month in UTC, which identifies the month's partition.
pub fn month_start(moment: DateTime<Utc>) -> DateTime<Utc> {
    let first =
        moment.date_naive().with_day(1).map(|day| day.and_time(chrono::NaiveTime::MIN).and_utc());
    first.unwrap_or(moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_kept_to_the_microsecond() {
        for (text, shown) in [
            ("2024-02-29T12:00:00Z", "2024-02-29T12:00:00Z"),
            ("2024-02-29T01:30:00.123456+03:00", "2024-02-28T22:30:00.123456Z"),
            ("2024-02-29t12:00:00.500000000z", "2024-02-29T12:00:00.500Z"),
        ] {
            assert_eq!(parse_moment(text).map(format_moment).as_deref(), Some(shown));
        }
        assert_eq!(
            format_moment(month_start(parse_moment("2024-03-01T00:30:00+01:00").unwrap())),
            "2024-02-01T00:00:00Z"
        );
    }

    #[test]
    fn everything_else_is_refused() {
        for bad in [
            "",
            "2024-02-29",
            "2024-02-29T12:00:00",
            "2024-02-29 12:00:00Z",
            "2024-02-30T12:00:00Z",
            "2024-02-29T12:00:00.1234567Z",
            "2016-12-31T23:59:60Z",
            "1709208000",
            "9999-12-31T23:59:59-23:59",
            "0001-01-01T00:00:00+00:01",
        ] {
            assert_eq!(parse_moment(bad), None, "{bad}");
        }
        assert!(parse_moment("1969-12-31T23:59:59Z").is_some());
        assert!(
            ["1969-12-31T23:59:59.999999Z", "2101-01-01T00:00:00Z"]
                .iter()
                .all(|t| parse_event_time(t).is_none())
        );
        assert!(
            ["1970-01-01T00:00:00Z", "2100-12-31T23:59:59.999999Z"]
                .iter()
                .all(|t| parse_event_time(t).is_some())
        );
    }
}
