//! Definition of a schedule, as in a bundle file.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

/// A task that recurs by a cron expression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskSchedule {
    /// Schedule name, unique in the bundle.
    pub name: String,
    /// Free text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Cron expression in UTC, such as `5 3 * * *`.
    pub schedule: String,
    /// Task type, such as `ledger.partitions`.
    pub task_type: String,
    /// Task params, a JSON object.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub params: Map<String, Json>,
}

impl TaskSchedule {
    /// JSON form, without absent fields.
    pub fn to_json(&self) -> Json {
        // Infallible: strings and a map always have a JSON form.
        serde_json::to_value(self).unwrap_or_default()
    }
}
