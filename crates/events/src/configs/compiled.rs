//! A config as it is matched: its conditions parsed, its join named.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{ActionConfig, TriggerCondition, template};
use crate::params::{EventParams, canonical_json, value_at_path};

/// A config that can be held against events.
#[derive(Debug, Clone)]
pub struct CompiledActionConfig {
    /// The config.
    pub definition: ActionConfig,
    /// Its triggers' conditions, by the paths of the params.
    pub triggers: Vec<Vec<(String, TriggerCondition)>>,
    /// About what its patterns take, in bytes.
    pub pattern_bytes: usize,
    /// The params of its action, in bytes of JSON.
    pub params_bytes: usize,
    /// Whether its action has any template.
    pub has_templates: bool,
}

impl CompiledActionConfig {
    /// From a config, or the path of what is wrong in it and why.
    pub fn new(config: ActionConfig) -> Result<Self, (String, String)> {
        let mut triggers: Vec<Vec<(String, TriggerCondition)>> =
            Vec::with_capacity(config.on.len());
        for (n, trigger) in config.on.iter().enumerate() {
            let condition = |(path, value): (&String, &Value)| {
                let condition = TriggerCondition::parse(value);
                condition
                    .map(|condition| (path.clone(), condition))
                    .map_err(|reason| (format!("on[{n}].params.{path}"), reason))
            };
            triggers.push(trigger.params.iter().map(condition).collect::<Result<_, _>>()?);
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

    /// Whether an event of this trigger's name pulls it.
    pub fn is_trigger_met(&self, trigger: usize, params: &EventParams) -> bool {
        let conditions = self.triggers.get(trigger).into_iter().flatten();
        conditions
            .into_iter()
            .all(|(path, condition)| condition.is_met(value_at_path(params, path)))
    }

    /// Why an event of this trigger's name does not pull it; nothing if it does.
    pub fn unmet_reason(&self, trigger: usize, params: &EventParams) -> Option<String> {
        self.triggers.get(trigger)?.iter().find_map(|(path, condition)| {
            condition
                .failure_reason(value_at_path(params, path))
                .map(|reason| format!("params.{path}: {reason}"))
        })
    }

    /// The values in which the events of its join must be equal, or the param that is missing.
    pub fn join_values(&self, params: &EventParams) -> Result<Vec<Value>, String> {
        let value =
            |path: &String| value_at_path(params, path).cloned().ok_or_else(|| path.clone());
        self.definition.join.iter().map(value).collect()
    }

    /// The join of these values: another one as soon as triggers or join change.
    pub fn join_id(&self, values: &[Value]) -> [u8; 32] {
        let config = &self.definition;
        let on = serde_json::to_value(&config.on).unwrap_or_default();
        let join = json!([config.name, on, config.join, values]);
        Sha256::digest(canonical_json(&join)).into()
    }
}
