//! All configs, compiled, found by an event's name and one of its values: what configs about other events there are costs
//! nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Compiled, Condition};
use crate::params::{Params, at, canonical};

/// The configs at one version.
#[derive(Debug, Clone, Default)]
pub struct Index {
    /// Since when it is so.
    pub version: i64,
    configs: HashMap<Arc<str>, Arc<Compiled>>,
    by_event: HashMap<Arc<str>, Arc<OfEvent>>,
    /// About what all patterns take, in bytes.
    patterns: usize,
}

/// The triggers about one name.
#[derive(Debug, Default)]
struct OfEvent {
    /// By the path of a param that they want to be equal to something, and that.
    by_value: HashMap<String, HashMap<String, Vec<Place>>>,
    /// Those that want nothing to be equal.
    others: Vec<Place>,
    /// Whether any of them looks for a pattern.
    has_patterns: bool,
}

/// A trigger of a config.
type Place = (Arc<Compiled>, usize);

/// A config, and which of its triggers an event pulls.
pub type Pulled = (Arc<Compiled>, Vec<usize>);

impl Index {
    /// With these configs changed, each once, and those without one deleted. What it costs depends on the configs about the same
    /// events, but for a copy of two maps of references.
    pub fn with(&self, version: i64, changes: Vec<(String, Option<Compiled>)>) -> Self {
        let mut next = Self { version, ..self.clone() };
        let changed: HashSet<String> = changes.iter().map(|(name, _)| name.clone()).collect();
        let mut touched: HashMap<String, Vec<Place>> = HashMap::new();
        for (name, config) in changes {
            let old = next.configs.remove(name.as_str());
            next.patterns -= old.as_ref().map_or(0, |old| old.patterns);
            for on in old.iter().flat_map(|old| &old.config.on) {
                touched.entry(on.event.clone()).or_default();
            }
            let Some(config) = config.map(Arc::new) else { continue };
            next.patterns += config.patterns;
            for (n, on) in config.config.on.iter().enumerate() {
                let places = touched.entry(on.event.clone()).or_default();
                places.extend(config.config.enabled.then(|| (config.clone(), n)));
            }
            next.configs.insert(name.into(), config);
        }
        touched.into_iter().for_each(|(event, new)| next.rebuild(&event, &changed, new));
        next
    }

    /// What is about an event: the triggers of configs that have not changed, and the new ones.
    fn rebuild(&mut self, event: &str, changed: &HashSet<String>, mut places: Vec<Place>) {
        let known = self.by_event.remove(event);
        let known = known.iter().flat_map(|known| known.places());
        places.extend(known.filter(|(config, _)| !changed.contains(&config.config.name)).cloned());
        if !places.is_empty() {
            self.by_event.insert(event.into(), Arc::new(OfEvent::new(places)));
        }
    }

    /// How many configs there are.
    pub fn len(&self) -> usize {
        self.configs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.configs.is_empty()
    }

    /// About what the patterns of all configs but this one take, in bytes.
    pub fn patterns_beside(&self, name: &str) -> usize {
        self.patterns - self.configs.get(name).map_or(0, |config| config.patterns)
    }

    /// Whether any config is about events of this name.
    pub fn is_about(&self, event: &str) -> bool {
        self.by_event.contains_key(event)
    }

    /// Whether matching an event of this name may take long: a pattern is looked for in its params.
    pub fn looks_for_patterns(&self, event: &str) -> bool {
        self.by_event.get(event).is_some_and(|of_event| of_event.has_patterns)
    }

    /// The configs that an event pulls triggers of, by name.
    pub fn pulled(&self, event: &str, params: &Params) -> Vec<Pulled> {
        let Some(of_event) = self.by_event.get(event) else { return Vec::new() };
        let met = |(config, trigger): &&Place| config.meets(*trigger, params);
        let mut places: Vec<&Place> = of_event.candidates(params).filter(met).collect();
        places.sort_unstable_by(|(a, n), (b, m)| (&a.config.name, n).cmp(&(&b.config.name, m)));
        let mut pulled: Vec<Pulled> = Vec::new();
        for (config, trigger) in places {
            match pulled.last_mut() {
                Some((known, triggers)) if Arc::ptr_eq(known, config) => triggers.push(*trigger),
                _ => pulled.push((config.clone(), vec![*trigger])),
            }
        }
        pulled
    }
}

impl OfEvent {
    /// Each trigger lies at the param in which the triggers differ most.
    fn new(places: Vec<Place>) -> Self {
        let mut values: HashMap<&str, HashSet<String>> = HashMap::new();
        for (path, value) in places.iter().flat_map(equalities) {
            values.entry(path).or_default().insert(value);
        }
        let differ: HashMap<String, usize> =
            values.into_iter().map(|(path, values)| (path.to_owned(), values.len())).collect();
        let has_patterns = places.iter().any(|(config, _)| config.patterns > 0);
        let mut of_event = Self { has_patterns, ..Self::default() };
        for place in places {
            let best = equalities(&place).max_by_key(|(path, _)| (differ.get(*path).copied(), *path));
            match best.map(|(path, value)| (path.to_owned(), value)) {
                Some((path, value)) => {
                    of_event.by_value.entry(path).or_default().entry(value).or_default().push(place);
                }
                None => of_event.others.push(place),
            }
        }
        of_event
    }

    fn places(&self) -> impl Iterator<Item = &Place> {
        self.by_value.values().flat_map(HashMap::values).flatten().chain(&self.others)
    }

    fn candidates(&self, params: &Params) -> impl Iterator<Item = &Place> {
        let found =
            self.by_value.iter().filter_map(|(path, values)| values.get(&canonical(at(params, path)?)));
        found.flatten().chain(&self.others)
    }
}

fn equalities((config, trigger): &Place) -> impl Iterator<Item = (&str, String)> {
    config.triggers[*trigger].iter().filter_map(|(path, condition)| match condition {
        Condition::Equals(value) => Some((path.as_str(), canonical(value))),
        Condition::In(_) | Condition::Regex(_) | Condition::Exists(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn compiled(name: &str, on: Value) -> (String, Option<Compiled>) {
        let config = json!({"name": name, "on": on, "action": {"task": "noop"}});
        (name.to_owned(), Some(Compiled::new(serde_json::from_value(config).unwrap()).unwrap()))
    }

    fn pulled(index: &Index, event: &str, params: Value) -> Vec<(String, Vec<usize>)> {
        let pulled = index.pulled(event, params.as_object().unwrap());
        pulled.into_iter().map(|(config, triggers)| (config.config.name.clone(), triggers)).collect()
    }

    #[test]
    fn an_event_pulls_exactly_the_triggers_whose_conditions_it_meets() {
        let index = Index::default().with(
            2,
            vec![
                compiled("a", json!([{"event": "e", "params": {"t": "x", "s": "ok"}}])),
                compiled("b", json!([{"event": "e", "params": {"t": "y", "s": "ok"}}])),
                compiled("c", json!([{"event": "e", "params": {"n": {"in": [1, 2]}}}])),
                compiled("d", json!([{"event": "e"}, {"event": "f"}, {"event": "e", "params": {"n": 1}}])),
                compiled("o", json!([{"event": "o"}])),
            ],
        );
        let one = |name: &str, triggers: &[usize]| (name.to_owned(), triggers.to_vec());
        assert_eq!(pulled(&index, "e", json!({"t": "x", "s": "ok"})), [one("a", &[0]), one("d", &[0])]);
        assert_eq!(pulled(&index, "e", json!({"t": "x", "s": "no"})), [one("d", &[0])]);
        assert_eq!(pulled(&index, "e", json!({"n": 1.0})), [one("c", &[0]), one("d", &[0, 2])]);
        assert_eq!(pulled(&index, "f", json!({})), [one("d", &[1])]);
        assert_eq!(pulled(&index, "x", json!({})), []);
        let changed = index.with(3, vec![("d".to_owned(), None), compiled("o", json!([{"event": "f"}]))]);
        assert_eq!(pulled(&changed, "f", json!({})), [one("o", &[0])]);
        assert_eq!(pulled(&changed, "o", json!({})), []);
        assert_eq!((changed.len(), changed.version, index.len()), (4, 3, 5));
    }
}
