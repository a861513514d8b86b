//! Events: the written form, the stored form and their fingerprints.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tasks::TaskId;

use crate::EventId;
use crate::params::{EventParams, canonical_json};

/// Author of events that the platform emits.
pub const PLATFORM_AUTHOR: &str = "platform";
/// Prefix of the event keys that the platform generates; callers' keys cannot contain it.
pub const PLATFORM_KEY_PREFIX: char = '\u{1}';

/// A validated event to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// Event name, 1 to 256 bytes.
    pub name: String,
    /// JSON object, at most 256 KiB.
    pub params: EventParams,
    /// Name of the sending client.
    pub author: String,
    /// Idempotency key: an event sent again under the same key is not written again.
    pub key: Option<String>,
    /// The task that caused it, if any.
    pub cause: EventCause,
}

/// Cause of an event: a task, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventCause {
    /// Id of the causing task.
    pub task_id: Option<TaskId>,
    /// Depth in the chain: number of tasks and events before it.
    pub depth: i16,
}

impl EventCause {
    /// Caused by a task at chain depth `depth`.
    pub fn of_task(task_id: TaskId, depth: i16) -> Self {
        Self { task_id: Some(task_id), depth: depth.saturating_add(1) }
    }
}

/// An event as stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Event id, ascending by creation.
    pub id: EventId,
    /// Event name, 1 to 256 bytes.
    pub name: String,
    /// JSON object, at most 256 KiB.
    pub params: EventParams,
    /// Name of the sending client.
    pub author: String,
    /// Time of creation by the database's clock.
    pub time_created: DateTime<Utc>,
    /// The task that caused it, if any.
    pub cause: EventCause,
}

impl Event {
    /// JSON object that the API returns.
    pub fn to_json(&self) -> Value {
        let mut shown = json!({
            "_id": self.id.to_string(), "name": self.name, "params": self.params, "author": self.author,
            "time_created": self.time_created.to_rfc3339_opts(SecondsFormat::Micros, true),
        });
        if let Some(task_id) = self.cause.task_id {
            shown["task_id"] = task_id.get().into();
        }
        shown
    }

    /// Fingerprint of an event before it has an id: content, author and cause.
    pub(crate) fn identity_fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.content_fingerprint());
        hash.update(canonical_json(&json!([self.author, self.cause.task_id, self.cause.depth])));
        hash.finalize().into()
    }

    /// Fingerprint of name and params: two events with one key must agree in it.
    pub(crate) fn content_fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(canonical_json(&Value::String(self.name.clone())));
        hash.update(canonical_json(&Value::Object(self.params.clone())));
        hash.finalize().into()
    }
}
