//! What an event is.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::EventId;
use crate::params::{EventParams, canonical_json};

/// Who the events of the platform itself are by.
pub const PLATFORM_AUTHOR: &str = "platform";
/// What the keys of the platform's own events begin with; nobody else's may hold it.
pub const PLATFORM_KEY_PREFIX: char = '\u{1}';

/// An event to be written. It has been checked.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// Its name.
    pub name: String,
    /// Its params.
    pub params: EventParams,
    /// Who sends it.
    pub author: String,
    /// Sent again under this key, it is the same event.
    pub key: Option<String>,
    /// What caused it.
    pub cause: EventCause,
}

/// What caused an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventCause {
    /// The task.
    pub task_id: Option<i64>,
    /// How many tasks and events are before it in its chain.
    pub depth: i16,
}

impl EventCause {
    /// A task with this place in its chain.
    pub fn of_task(task_id: i64, depth: i16) -> Self {
        Self { task_id: Some(task_id), depth: depth.saturating_add(1) }
    }
}

/// An event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its id.
    pub id: EventId,
    /// Its name.
    pub name: String,
    /// Its params.
    pub params: EventParams,
    /// Who sent it.
    pub author: String,
    /// When it was created, on the database's clock.
    pub time_created: DateTime<Utc>,
    /// What caused it.
    pub cause: EventCause,
}

impl Event {
    /// As the API shows it.
    pub fn to_json(&self) -> Value {
        let mut shown = json!({
            "_id": self.id.to_string(), "name": self.name, "params": self.params, "author": self.author,
            "time_created": self.time_created.to_rfc3339_opts(SecondsFormat::Micros, true),
        });
        if let Some(task_id) = self.cause.task_id {
            shown["task_id"] = task_id.into();
        }
        shown
    }

    /// What it is, whenever it is written.
    pub(crate) fn identity_fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.content_fingerprint());
        hash.update(canonical_json(&json!([self.author, self.cause.task_id, self.cause.depth])));
        hash.finalize().into()
    }

    /// What two events with one key must have in common.
    pub(crate) fn content_fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(canonical_json(&Value::String(self.name.clone())));
        hash.update(canonical_json(&Value::Object(self.params.clone())));
        hash.finalize().into()
    }
}
