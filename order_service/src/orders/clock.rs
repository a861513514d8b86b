//! The database's clock, as read by this process: all times stored for an order come from one clock, so that its
//! history is in order whatever this machine believes.

use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};

/// This machine's clock and how far it is behind or ahead of the database's.
#[derive(Debug, Default)]
pub struct Clock {
    offset_micros: AtomicI64,
}

impl Clock {
    /// Takes note of a `now()` of the database that has just arrived. What [`Clock::now`] gives afterwards is never
    /// before it, and never later than the database's own clock.
    pub fn set(&self, database_now: DateTime<Utc>) {
        let offset = (database_now - Utc::now()).num_microseconds().unwrap_or(0);
        self.offset_micros.store(offset, Ordering::Relaxed);
    }

    /// The time now.
    pub fn now(&self) -> DateTime<Utc> {
        Utc::now() + TimeDelta::microseconds(self.offset_micros.load(Ordering::Relaxed))
    }
}
