//! Compiled configs: parsed conditions and join identity.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{ActionConfig, TriggerCondition, template};
use crate::params::{EventParams, canonical_json, value_at_path};

/// A config ready for matching.
#[derive(Debug, Clone)]
pub struct CompiledActionConfig {
    /// The config as written.
    pub definition: ActionConfig,
    /// Conditions of each trigger, with their param paths.
    pub triggers: Vec<Vec<(String, TriggerCondition)>>,
    /// Approximate compiled size of its patterns, in bytes.
    pub pattern_bytes: usize,
    /// Size of the action's params, in bytes of JSON.
    pub params_bytes: usize,
    /// Whether its action contains templates.
    pub has_templates: bool,
}

impl CompiledActionConfig {
    /// Compiles a config; the error is a field path and a reason.
    pub fn new(config: ActionConfig) -> Result<Self, (String, String)> {
        let mut triggers: Vec<Vec<(String, TriggerCondition)>> =
            Vec::with_capacity(config.on.len());
        for (n, trigger) in config.on.iter().enumerate() {
            let mut conditions = Vec::with_capacity(trigger.params.len());
            for (path, value) in &trigger.params {
                match TriggerCondition::parse(value) {
                    Ok(condition) => conditions.push((path.clone(), condition)),
                    Err(reason) => return Err((format!("on[{n}].params.{path}"), reason)),
                }
            }
            triggers.push(conditions);
        }
        let patterns =
            triggers.iter().flatten().map(|(_, condition)| condition.pattern_bytes()).sum();
        let size = crate::params::params_bytes(&config.action.params);
        let has_templates = template::has_templates(&config.action);
        Ok(Self {
            definition: config,
            triggers,
            pattern_bytes: patterns,
            params_bytes: size,
            has_templates,
        })
    }

    /// Whether an event with the trigger's name meets its conditions.
    pub fn is_trigger_met(&self, trigger: usize, params: &EventParams) -> bool {
        let conditions = self.triggers.get(trigger).into_iter().flatten();
        conditions
            .into_iter()
            .all(|(path, condition)| condition.is_met(value_at_path(params, path)))
    }

    /// Why an event with the trigger's name does not meet it; `None` if it does.
    pub fn unmet_reason(&self, trigger: usize, params: &EventParams) -> Option<String> {
        self.triggers.get(trigger)?.iter().find_map(|(path, condition)| {
            condition
                .failure_reason(value_at_path(params, path))
                .map(|reason| format!("params.{path}: {reason}"))
        })
    }

    /// Join values of an event, or the path of a missing param.
    pub fn join_values(&self, params: &EventParams) -> Result<Vec<Value>, String> {
        let mut values = Vec::with_capacity(self.definition.join.len());
        for path in &self.definition.join {
            values.push(value_at_path(params, path).ok_or_else(|| path.clone())?.clone());
        }
        Ok(values)
    }

    /// Id of the join with these values; changes whenever triggers or join paths change.
    pub fn join_id(&self, values: &[Value]) -> [u8; 32] {
        let config = &self.definition;
        let on = serde_json::to_value(&config.on).unwrap_or_default();
        let join = json!([config.name, on, config.join, values]);
        Sha256::digest(canonical_json(&join)).into()
    }
}
