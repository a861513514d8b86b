//! Estimate of the database's clock: all times of an order come from one clock, so that its history
//! is ordered whatever this machine's clock says.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use chrono::{DateTime, Utc};

/// The database's clock, extrapolated by this machine's monotonic clock: steps of the wall
/// clock have no effect.
#[derive(Debug)]
pub struct DatabaseClock {
    started: Instant,
    /// The database's time at `started` in microseconds. Each observation is a lower bound;
    /// the highest one counts.
    origin_micros: AtomicI64,
}

impl Default for DatabaseClock {
    fn default() -> Self {
        Self { started: Instant::now(), origin_micros: AtomicI64::new(i64::MIN) }
    }
}

impl DatabaseClock {
    /// Observes a `now()` that has just been received. Afterwards [`DatabaseClock::now`] is never
    /// before it, and never after the database's own clock.
    pub fn observe(&self, database_now: DateTime<Utc>) {
        let origin = database_now.timestamp_micros().saturating_sub(self.elapsed_micros());
        self.origin_micros.fetch_max(origin, Ordering::Relaxed);
    }

    /// The estimated time; the wall clock until the first observation.
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
