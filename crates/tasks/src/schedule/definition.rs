//! A schedule, as in its file.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

/// A task that is to be done again and again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskSchedule {
    /// Its name.
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// When: a cron expression, in UTC.
    pub schedule: String,
    /// What type of task.
    pub task_type: String,
    /// The task's params.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub params: Map<String, Json>,
}

impl TaskSchedule {
    /// As JSON.
    pub fn to_json(&self) -> Json {
        // A struct of texts and a map always has a JSON form.
        serde_json::to_value(self).unwrap_or_default()
    }
}
