//! An action config, as in its file.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use serving::body::or_default;

/// Says which task starts on which events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionConfig {
    /// Its name; not the task's: several configs may start one type of task differently.
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Whether it starts anything.
    #[serde(default = "default_true", deserialize_with = "null_as_true")]
    pub enabled: bool,
    /// The events that it starts on: all of them, if there are several.
    pub on: Vec<ConfigTrigger>,
    /// The params in which several events must be equal.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub join: Vec<String>,
    /// What it starts.
    pub action: ConfigAction,
}

/// An event that a config waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigTrigger {
    /// The event's name.
    pub event: String,
    /// What its params must be: values, or conditions (`in`, `regex`, `exists`).
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Map::is_empty")]
    pub params: Map<String, Value>,
}

/// What a config starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigAction {
    /// The type of task.
    pub task: String,
    /// The task's params; texts in them are templates.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Map::is_empty")]
    pub params: Map<String, Value>,
    /// Failed attempts after which it is given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// Above 0: before the others; below: after them.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub priority: i32,
    /// Tasks with this key run one at a time; a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_key: Option<String>,
}

fn null_as_true<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_else(default_true))
}

fn default_true() -> bool {
    true
}

fn is_zero(priority: &i32) -> bool {
    *priority == 0
}

impl ActionConfig {
    /// As JSON.
    pub fn to_json(&self) -> Value {
        // A struct of texts, numbers and maps always has a JSON form.
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Whether it waits for several events.
    pub fn is_join(&self) -> bool {
        self.on.len() > 1
    }
}
