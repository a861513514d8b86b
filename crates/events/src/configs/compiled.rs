//! A config as it is matched: its conditions parsed, its join named.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{ActionConfig, Condition, template};
use crate::params::{Params, at, canonical};

/// A config that can be held against events.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// The config.
    pub config: ActionConfig,
    /// Its triggers' conditions, by the paths of the params.
    pub triggers: Vec<Vec<(String, Condition)>>,
    /// About what its patterns take, in bytes.
    pub patterns: usize,
    /// The params of its action, in bytes of JSON.
    pub size: usize,
    /// Whether its action has any template.
    pub has_templates: bool,
}

impl Compiled {
    /// From a config, or the path of what is wrong in it and why.
    pub fn new(config: ActionConfig) -> Result<Self, (String, String)> {
        let mut triggers: Vec<Vec<(String, Condition)>> = Vec::with_capacity(config.on.len());
        for (n, trigger) in config.on.iter().enumerate() {
            let condition = |(path, value): (&String, &Value)| {
                let condition = Condition::parse(value);
                condition
                    .map(|condition| (path.clone(), condition))
                    .map_err(|reason| (format!("on[{n}].params.{path}"), reason))
            };
            triggers.push(trigger.params.iter().map(condition).collect::<Result<_, _>>()?);
        }
        let patterns = triggers.iter().flatten().map(|(_, condition)| condition.pattern_size()).sum();
        let size = crate::params::size(&config.action.params);
        let has_templates = template::any_in(&config.action);
        Ok(Self { config, triggers, patterns, size, has_templates })
    }

    /// Whether an event of this trigger's name pulls it.
    pub fn meets(&self, trigger: usize, params: &Params) -> bool {
        let conditions = self.triggers.get(trigger).into_iter().flatten();
        conditions.into_iter().all(|(path, condition)| condition.is_met(at(params, path)))
    }

    /// Why an event of this trigger's name does not pull it; nothing if it does.
    pub fn unmet(&self, trigger: usize, params: &Params) -> Option<String> {
        self.triggers.get(trigger)?.iter().find_map(|(path, condition)| {
            condition.fails(at(params, path)).map(|reason| format!("params.{path}: {reason}"))
        })
    }

    /// The values in which the events of its join must be equal, or the param that is missing.
    pub fn join_values(&self, params: &Params) -> Result<Vec<Value>, String> {
        let value = |path: &String| at(params, path).cloned().ok_or_else(|| path.clone());
        self.config.join.iter().map(value).collect()
    }

    /// The join of these values: another one as soon as triggers or join change.
    pub fn join_id(&self, values: &[Value]) -> [u8; 32] {
        let config = &self.config;
        let on = serde_json::to_value(&config.on).unwrap_or_default();
        let join = json!([config.name, on, config.join, values]);
        Sha256::digest(canonical(&join)).into()
    }
}
