//! Due ticks of a schedule; pure.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::CronExpression;

/// Longer than the failover to another scheduler takes. No tick within this window is skipped.
pub const HANDOVER_WINDOW: Duration = Duration::from_secs(30);

/// Ticks due at `now`, given that those up to `done_until` have tasks: all of the last
/// [`HANDOVER_WINDOW`], or else the latest one, however late. After an outage of all schedulers the
/// missed ticks are thus made up for once.
pub fn due_ticks(
    cron: &CronExpression,
    done_until: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Vec<DateTime<Utc>> {
    let recently = now - HANDOVER_WINDOW;
    let mut ticks = Vec::new();
    let mut after = done_until.max(recently);
    while let Some(tick) = cron.next(after).filter(|tick| *tick <= now) {
        ticks.push(tick);
        after = tick;
    }
    if ticks.is_empty() {
        ticks.extend(cron.latest_tick(now).filter(|tick| *tick > done_until));
    }
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truth_table() {
        let table: [(&str, &str, &str, &[&str]); 9] = [
            // None due, exactly on time, slightly late, never twice.
            ("* * * * *", "11:59:30", "11:59:59", &[]),
            ("* * * * *", "11:59:30", "12:00:00", &["12:00:00"]),
            ("* * * * *", "11:59:30", "12:00:20", &["12:00:00"]),
            ("* * * * *", "12:00:00", "12:00:20", &[]),
            // All schedulers were down: only the latest tick, late.
            ("* * * * *", "11:59:30", "12:00:50", &["12:00:00"]),
            ("* * * * *", "09:00:00", "12:00:50", &["12:00:00"]),
            ("0 3 * * *", "02:59:00", "12:00:00", &["03:00:00"]),
            // A failover loses no tick.
            ("*/10 * * * * *", "11:59:40", "12:00:05", &["11:59:50", "12:00:00"]),
            // The clock was set back.
            ("* * * * *", "12:00:00", "11:30:00", &[]),
        ];
        let at = |time: &str| format!("2024-02-29T{time}Z").parse::<DateTime<Utc>>().unwrap();
        for (cron, done_until, now, expected) in table {
            let ticks = due_ticks(&CronExpression::parse(cron).unwrap(), at(done_until), at(now));
            assert_eq!(
                ticks,
                expected.iter().map(|time| at(time)).collect::<Vec<_>>(),
                "{cron} at {now}"
            );
        }
    }

    #[test]
    fn each_second_for_half_a_minute_and_no_more() {
        let each_second = CronExpression::parse("* * * * * *").unwrap();
        let now = "2024-02-29T12:00:00.7Z".parse::<DateTime<Utc>>().unwrap();
        assert_eq!(due_ticks(&each_second, now - Duration::from_secs(10), now).len(), 10);
        assert_eq!(due_ticks(&each_second, now - Duration::from_secs(3600), now).len(), 30);
    }
}
