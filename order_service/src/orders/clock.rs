//! The database's clock, as read by this process: all times stored for an order come from one clock, so that its
//! history is in order whatever this machine believes.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use chrono::{DateTime, Utc};

/// The database's clock, carried on by this machine's monotonic one: a step of its wall clock changes nothing.
#[derive(Debug)]
pub struct DatabaseClock {
    started: Instant,
    /// The database's time at `started`, in microseconds; each answer gives a lower bound, the highest one holds.
    origin_micros: AtomicI64,
}

impl Default for DatabaseClock {
    fn default() -> Self {
        Self { started: Instant::now(), origin_micros: AtomicI64::new(i64::MIN) }
    }
}

impl DatabaseClock {
    /// Takes note of a `now()` of the database that has just arrived. What [`DatabaseClock::now`] gives afterwards is never
    /// before it, and never later than the database's own clock.
    pub fn observe(&self, database_now: DateTime<Utc>) {
        let origin = database_now.timestamp_micros().saturating_sub(self.elapsed_micros());
        self.origin_micros.fetch_max(origin, Ordering::Relaxed);
    }

    /// The time now; this machine's, as long as the database's is not known.
    pub fn now(&self) -> DateTime<Utc> {
        let origin = self.origin_micros.load(Ordering::Relaxed);
        let now = (origin != i64::MIN).then(|| origin.saturating_add(self.elapsed_micros()));
        now.and_then(DateTime::from_timestamp_micros).unwrap_or_else(Utc::now)
    }

    fn elapsed_micros(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    #[test]
    fn a_late_answer_does_not_turn_it_back() {
        let clock = DatabaseClock::default();
        let ahead = Utc::now() + TimeDelta::hours(5);
        clock.observe(ahead);
        clock.observe(ahead - TimeDelta::seconds(1));
        let tolerance = TimeDelta::milliseconds(1);
        assert!(clock.now() >= ahead - tolerance && clock.now() < ahead + TimeDelta::seconds(5));
    }
}
