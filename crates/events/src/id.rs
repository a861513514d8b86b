//! Ids of events: numbers inside, texts outside, which sort alike.

use std::fmt;

use chrono::{DateTime, Utc};

/// Bits of an id below the second of its creation.
const SUBSECOND_BITS: u32 = 30;
/// By how much an id may be older than its event's time: whoever waited for a transaction at the turn of a second.
const CLOCK_TOLERANCE_SECONDS: i64 = 120;

/// An event's id. Shown as 16 hexadecimal digits, so that texts sort as numbers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub i64);

impl EventId {
    /// From its text.
    pub fn parse(text: &str) -> Option<Self> {
        tasks::event_id::parse_event_id(text).map(Self)
    }

    /// No event that was created at `at` or later has a smaller id (unless the database's clock was put back).
    pub fn not_before(at: DateTime<Utc>) -> Self {
        Self(
            at.timestamp().saturating_sub(CLOCK_TOLERANCE_SECONDS).clamp(0, 1 << 32)
                << SUBSECOND_BITS,
        )
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&tasks::event_id::format_event_id(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_ids() {
        let id = EventId(1_795_000_000 << 30);
        assert_eq!(EventId::parse(&id.to_string()), Some(id));
        for bad in
            ["", "1", "+aaaaaaaaaaaaaaa", "zzzzzzzzzzzzzzzz", "ffffffffffffffff", "ü2345678901234"]
        {
            assert_eq!(EventId::parse(bad), None, "{bad}");
        }
        assert!(EventId(1).to_string() < EventId(16).to_string());
    }
}
