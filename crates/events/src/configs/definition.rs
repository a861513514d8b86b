//! Definition of an action config, as in a bundle file.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use serving::body::or_default;

/// Which task starts on which events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionConfig {
    /// Config name, unique; several configs may start one task type.
    pub name: String,
    /// Free text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Author of the config; the owner's name if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Whether the config starts tasks; `null` counts as `true`.
    #[serde(default = "default_true", deserialize_with = "null_as_true")]
    pub enabled: bool,
    /// Triggers; with more than one the config is a join and waits for all.
    pub on: Vec<ConfigTrigger>,
    /// Params in which the events of a join must be equal.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub join: Vec<String>,
    /// The task to start.
    pub action: ConfigAction,
}

/// Trigger: an event name and conditions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigTrigger {
    /// Event name to match.
    pub event: String,
    /// Conditions by param path: a value, or `in`, `regex`, `exists`.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Map::is_empty")]
    pub params: Map<String, Value>,
}

/// Task started by a config.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigAction {
    /// Task type, such as `http_request`.
    pub task: String,
    /// Task params; strings in them are templates.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Map::is_empty")]
    pub params: Map<String, Value>,
    /// Failed attempts before the task is given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// Queue priority: above 0 runs earlier, below 0 later.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "is_zero")]
    pub priority: i32,
    /// Template; tasks with equal keys run one at a time.
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
    /// JSON form, without absent fields.
    pub fn to_json(&self) -> Value {
        // Infallible: strings, numbers and maps always have a JSON form.
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Whether the config waits for several events.
    pub fn is_join(&self) -> bool {
        self.on.len() > 1
    }
}
