//! Ids of tasks and events.

use std::fmt;

use chrono::{DateTime, Utc};

store::id_type! {
    /// Task id, ascending by creation.
    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(transparent)]
    pub struct TaskId(i64);
}

/// Low bits of an event id; the bits above hold the Unix second of creation.
const SUBSECOND_BITS: u32 = 30;
/// An event id's second may be this much older than the event's time: a transaction that does not
/// get the id lock at the turn of a second takes an id of the previous second.
const CLOCK_TOLERANCE_SECONDS: i64 = 120;

/// Event id. Shown as 16 hexadecimal digits, so that text order equals numeric order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub i64);

store::sql_number!(EventId, i64);

impl EventId {
    /// Parses the 16-digit text form; `None` if malformed.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        plain.then(|| i64::from_str_radix(text, 16).ok()).flatten().map(Self)
    }

    /// Lower bound for ids of events created at `at` or later, unless the database clock was set
    /// back.
    pub fn not_before(at: DateTime<Utc>) -> Self {
        Self(
            at.timestamp().saturating_sub(CLOCK_TOLERANCE_SECONDS).clamp(0, 1 << 32)
                << SUBSECOND_BITS,
        )
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
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

    #[test]
    fn a_task_id_is_a_number_in_json_and_in_text() {
        assert_eq!(serde_json::json!(TaskId(17)), serde_json::json!(17));
        assert_eq!(serde_json::from_str::<TaskId>("17").unwrap(), TaskId(17));
        assert_eq!(TaskId(17).to_string().parse(), Ok(TaskId(17)));
    }
}
