//! Cron expressions, in UTC.

use chrono::{DateTime, Utc};
use croner::parser::{CronParser, Seconds, Year};

/// Allowed fields, for error messages.
pub(super) const CRON_FIELDS_HELP: &str = "minute, hour, day of month, month and day of week (UTC), such as \"5 3 * * *\"; with seconds before them, six fields";
/// Maximum expression length, in bytes.
const MAX_CRON_BYTES: usize = 200;

/// A parsed cron expression.
#[derive(Debug, Clone)]
pub struct CronExpression(croner::Cron);

impl CronExpression {
    /// Parses an expression of five fields, or six with seconds; rejects one without any tick.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parser =
            CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        if text.len() > MAX_CRON_BYTES {
            return Err(explain_refusal(text, "it is too long"));
        }
        let cron = match parser.parse(text) {
            Ok(cron) => Self(cron),
            Err(error) => {
                return Err(explain_refusal(text, error.to_string().trim_end_matches('.')));
            }
        };
        match cron.next(DateTime::UNIX_EPOCH) {
            Some(_) => Ok(cron),
            None => Err(explain_refusal(text, "there is no such day")),
        }
    }

    /// First tick after `moment`.
    pub fn next(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.0.find_next_occurrence(&moment, false).ok()
    }

    /// Latest tick at or before `moment`.
    pub fn latest_tick(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.0.find_previous_occurrence(&moment, true).ok()
    }
}

fn explain_refusal(text: &str, reason: &str) -> String {
    let shown = shorten_text(text);
    format!("`{shown}` is no cron expression: {reason} (allowed: {CRON_FIELDS_HELP})")
}

fn shorten_text(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn ticks_in_utc() {
        let now = at("2024-02-29T12:00:00.5Z");
        let table = [
            ("* * * * *", "2024-02-29T12:00:00Z", "2024-02-29T12:01:00Z"),
            ("*/5 * * * * *", "2024-02-29T12:00:00Z", "2024-02-29T12:00:05Z"),
            ("5 3 * * *", "2024-02-29T03:05:00Z", "2024-03-01T03:05:00Z"),
            ("0 0 29 2 *", "2024-02-29T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 0 31 * *", "2024-01-31T00:00:00Z", "2024-03-31T00:00:00Z"),
            ("30 4 * * MON-FRI", "2024-02-29T04:30:00Z", "2024-03-01T04:30:00Z"),
            // Day of month or day of week, as in cron.
            ("0 0 13 * 5", "2024-02-23T00:00:00Z", "2024-03-01T00:00:00Z"),
            ("@daily", "2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z"),
        ];
        for (text, latest, next) in table {
            let cron = CronExpression::parse(text).unwrap();
            assert_eq!(
                (cron.latest_tick(now), cron.next(now)),
                (Some(at(latest)), Some(at(next))),
                "{text}"
            );
        }
        let minutely = CronExpression::parse("* * * * *").unwrap();
        let tick = at("2024-02-29T12:00:00Z");
        assert_eq!(
            (minutely.latest_tick(tick), minutely.next(tick)),
            (Some(tick), Some(at("2024-02-29T12:01:00Z")))
        );
    }

    #[test]
    fn everything_else_is_refused_with_what_is_allowed() {
        let long = "1,".repeat(200) + "1 * * * *";
        for bad in [
            "",
            "* * *",
            "61 * * * *",
            "* * * * * * *",
            "0 0 30 2 *",
            "a b c d e",
            "@reboot",
            "*/0 * * * *",
            &long,
        ] {
            let reason = CronExpression::parse(bad).unwrap_err();
            assert!(reason.contains("allowed: minute, hour") && reason.len() < 400, "{reason}");
        }
    }
}
