//! Index of all compiled configs by event name and one param value: configs of other events cost
//! nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{CompiledActionConfig, TriggerCondition};
use crate::params::{EventParams, canonical_json, value_at_path};

/// Immutable index of the configs at one version.
#[derive(Debug, Clone, Default)]
pub struct ActionConfigIndex {
    /// Config version of this index.
    pub version: i64,
    configs: HashMap<Arc<str>, Arc<CompiledActionConfig>>,
    by_event: HashMap<Arc<str>, Arc<EventTriggers>>,
    /// Approximate compiled size of all patterns, in bytes.
    pattern_bytes: usize,
}

/// Triggers on one event name.
#[derive(Debug, Default)]
struct EventTriggers {
    /// Triggers with an equality condition: by param path, then by canonical value.
    by_value: HashMap<String, HashMap<String, Vec<TriggerRef>>>,
    /// Triggers without an equality condition.
    others: Vec<TriggerRef>,
    /// Whether any trigger has a regex condition.
    has_patterns: bool,
}

/// A config and a trigger index in it.
type TriggerRef = (Arc<CompiledActionConfig>, usize);

/// A config, and the indexes of its triggers that an event meets.
pub type MatchedConfig = (Arc<CompiledActionConfig>, Vec<usize>);

impl ActionConfigIndex {
    /// A new index with these configs replaced (each once), or deleted where `None`. Cost:
    /// proportional to the configs on the affected events, plus a copy of two maps of `Arc`s.
    pub fn with_changes(
        &self,
        version: i64,
        changes: Vec<(String, Option<CompiledActionConfig>)>,
    ) -> Self {
        let mut next = Self { version, ..self.clone() };
        let changed: HashSet<String> = changes.iter().map(|(name, _)| name.clone()).collect();
        let mut touched: HashMap<String, Vec<TriggerRef>> = HashMap::new();
        for (name, config) in changes {
            let old = next.configs.remove(name.as_str());
            next.pattern_bytes -= old.as_ref().map_or(0, |old| old.pattern_bytes);
            for on in old.iter().flat_map(|old| &old.definition.on) {
                touched.entry(on.event.clone()).or_default();
            }
            let Some(config) = config.map(Arc::new) else { continue };
            next.pattern_bytes += config.pattern_bytes;
            for (n, on) in config.definition.on.iter().enumerate() {
                let triggers = touched.entry(on.event.clone()).or_default();
                triggers.extend(config.definition.enabled.then(|| (config.clone(), n)));
            }
            next.configs.insert(name.into(), config);
        }
        touched.into_iter().for_each(|(event, new)| next.rebuild_event(&event, &changed, new));
        next
    }

    /// Rebuilds the triggers of one event name: those of unchanged configs, and the new ones.
    fn rebuild_event(
        &mut self,
        event: &str,
        changed: &HashSet<String>,
        mut triggers: Vec<TriggerRef>,
    ) {
        let known = self.by_event.remove(event);
        let known = known.iter().flat_map(|known| known.all_triggers());
        triggers.extend(
            known.filter(|(config, _)| !changed.contains(&config.definition.name)).cloned(),
        );
        if !triggers.is_empty() {
            self.by_event.insert(event.into(), Arc::new(EventTriggers::new(triggers)));
        }
    }

    /// Number of configs, disabled ones included.
    pub fn len(&self) -> usize {
        self.configs.len()
    }

    /// Whether the index has no configs.
    pub fn is_empty(&self) -> bool {
        self.configs.is_empty()
    }

    /// Approximate compiled size of all other configs' patterns, in bytes.
    pub fn other_pattern_bytes(&self, name: &str) -> usize {
        self.pattern_bytes - self.configs.get(name).map_or(0, |config| config.pattern_bytes)
    }

    /// Whether any enabled config has a trigger on this event name.
    pub fn has_triggers_for(&self, event: &str) -> bool {
        self.by_event.contains_key(event)
    }

    /// Whether matching this event name may be slow, because of regex conditions.
    pub fn has_patterns_for(&self, event: &str) -> bool {
        self.by_event.get(event).is_some_and(|of_event| of_event.has_patterns)
    }

    /// Configs with a trigger that the event meets, in name order.
    pub fn match_event(&self, event: &str, params: &EventParams) -> Vec<MatchedConfig> {
        let Some(of_event) = self.by_event.get(event) else { return Vec::new() };
        let mut triggers: Vec<&TriggerRef> = of_event
            .candidate_triggers(params)
            .filter(|(config, trigger)| config.is_trigger_met(*trigger, params))
            .collect();
        triggers.sort_unstable_by(|(a, n), (b, m)| {
            (&a.definition.name, n).cmp(&(&b.definition.name, m))
        });
        let mut matched: Vec<MatchedConfig> = Vec::new();
        for (config, trigger) in triggers {
            match matched.last_mut() {
                Some((known, triggers)) if Arc::ptr_eq(known, config) => triggers.push(*trigger),
                _ => matched.push((config.clone(), vec![*trigger])),
            }
        }
        matched
    }
}

impl EventTriggers {
    /// Each trigger is indexed by the param in which the triggers have the most distinct values.
    fn new(triggers: Vec<TriggerRef>) -> Self {
        let mut values: HashMap<&str, HashSet<String>> = HashMap::new();
        for (path, value) in triggers.iter().flat_map(equality_conditions) {
            values.entry(path).or_default().insert(value);
        }
        let differ: HashMap<String, usize> =
            values.into_iter().map(|(path, values)| (path.to_owned(), values.len())).collect();
        let has_patterns = triggers.iter().any(|(config, _)| config.pattern_bytes > 0);
        let mut of_event = Self { has_patterns, ..Self::default() };
        for trigger in triggers {
            let best = equality_conditions(&trigger)
                .max_by_key(|(path, _)| (differ.get(*path).copied(), *path));
            match best.map(|(path, value)| (path.to_owned(), value)) {
                Some((path, value)) => {
                    let triggers_by_value = of_event.by_value.entry(path).or_default();
                    triggers_by_value.entry(value).or_default().push(trigger);
                }
                None => of_event.others.push(trigger),
            }
        }
        of_event
    }

    fn all_triggers(&self) -> impl Iterator<Item = &TriggerRef> {
        self.by_value.values().flat_map(HashMap::values).flatten().chain(&self.others)
    }

    fn candidate_triggers(&self, params: &EventParams) -> impl Iterator<Item = &TriggerRef> {
        let found = self
            .by_value
            .iter()
            .filter_map(|(path, values)| values.get(&canonical_json(value_at_path(params, path)?)));
        found.flatten().chain(&self.others)
    }
}

fn equality_conditions((config, trigger): &TriggerRef) -> impl Iterator<Item = (&str, String)> {
    config.triggers[*trigger].iter().filter_map(|(path, condition)| match condition {
        TriggerCondition::Equals(value) => Some((path.as_str(), canonical_json(value))),
        TriggerCondition::In(_) | TriggerCondition::Regex(_) | TriggerCondition::Exists(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn compile_config(name: &str, on: Value) -> (String, Option<CompiledActionConfig>) {
        let config = json!({"name": name, "on": on, "action": {"task": "noop"}});
        (
            name.to_owned(),
            Some(CompiledActionConfig::new(serde_json::from_value(config).unwrap()).unwrap()),
        )
    }

    fn matched_triggers(
        index: &ActionConfigIndex,
        event: &str,
        params: Value,
    ) -> Vec<(String, Vec<usize>)> {
        let matched = index.match_event(event, params.as_object().unwrap());
        matched
            .into_iter()
            .map(|(config, triggers)| (config.definition.name.clone(), triggers))
            .collect()
    }

    #[test]
    fn an_event_pulls_exactly_the_triggers_whose_conditions_it_meets() {
        let index = ActionConfigIndex::default().with_changes(
            2,
            vec![
                compile_config("a", json!([{"event": "e", "params": {"t": "x", "s": "ok"}}])),
                compile_config("b", json!([{"event": "e", "params": {"t": "y", "s": "ok"}}])),
                compile_config("c", json!([{"event": "e", "params": {"n": {"in": [1, 2]}}}])),
                compile_config(
                    "d",
                    json!([{"event": "e"}, {"event": "f"}, {"event": "e", "params": {"n": 1}}]),
                ),
                compile_config("o", json!([{"event": "o"}])),
            ],
        );
        let one = |name: &str, triggers: &[usize]| (name.to_owned(), triggers.to_vec());
        assert_eq!(
            matched_triggers(&index, "e", json!({"t": "x", "s": "ok"})),
            [one("a", &[0]), one("d", &[0])]
        );
        assert_eq!(matched_triggers(&index, "e", json!({"t": "x", "s": "no"})), [one("d", &[0])]);
        assert_eq!(
            matched_triggers(&index, "e", json!({"n": 1.0})),
            [one("c", &[0]), one("d", &[0, 2])]
        );
        assert_eq!(matched_triggers(&index, "f", json!({})), [one("d", &[1])]);
        assert_eq!(matched_triggers(&index, "x", json!({})), []);
        let changed = index.with_changes(
            3,
            vec![("d".to_owned(), None), compile_config("o", json!([{"event": "f"}]))],
        );
        assert_eq!(matched_triggers(&changed, "f", json!({})), [one("o", &[0])]);
        assert_eq!(matched_triggers(&changed, "o", json!({})), []);
        assert_eq!((changed.len(), changed.version, index.len()), (4, 3, 5));
    }
}
