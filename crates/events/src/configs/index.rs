//! All configs, compiled, found by an event's name and one of its values: what configs about other events there are costs
//! nothing.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Compiled, Condition};
use crate::params::{Params, at, canonical};

/// The configs at one version.
#[derive(Debug, Clone, Default)]
pub struct Index {
    /// Since when it is so.
    pub version: i64,
    configs: HashMap<String, Arc<Compiled>>,
    by_event: HashMap<String, Arc<OfEvent>>,
}

/// The triggers about one name.
#[derive(Debug, Default)]
struct OfEvent {
    /// By the path of a param that they want to be equal to something, and that.
    by_value: HashMap<String, HashMap<String, Vec<Place>>>,
    /// Those that want nothing to be equal.
    others: Vec<Place>,
}

/// A trigger of a config.
type Place = (Arc<Compiled>, usize);

/// A config, and which of its triggers an event pulls.
pub type Pulled = (Arc<Compiled>, Vec<usize>);

impl Index {
    /// With these configs changed, and those without one deleted.
    pub fn with(&self, version: i64, changes: Vec<(String, Option<Compiled>)>) -> Self {
        let mut next = Self { version, ..self.clone() };
        let mut touched: Vec<String> = Vec::new();
        for (name, config) in changes {
            let names =
                |config: &Compiled| config.config.on.iter().map(|on| on.event.clone()).collect::<Vec<_>>();
            let old = match config {
                Some(config) => {
                    touched.extend(names(&config));
                    next.configs.insert(name, Arc::new(config))
                }
                None => next.configs.remove(&name),
            };
            touched.extend(old.iter().flat_map(|old| names(old)));
        }
        touched.sort_unstable();
        touched.dedup();
        next.rebuild(&touched);
        next
    }

    fn rebuild(&mut self, events: &[String]) {
        let mut places: HashMap<&str, Vec<Place>> =
            events.iter().map(|event| (event.as_str(), Vec::new())).collect();
        for config in self.configs.values().filter(|config| config.config.enabled) {
            for (n, on) in config.config.on.iter().enumerate() {
                if let Some(places) = places.get_mut(on.event.as_str()) {
                    places.push((config.clone(), n));
                }
            }
        }
        for (event, places) in places {
            match places.is_empty() {
                true => drop(self.by_event.remove(event)),
                false => drop(self.by_event.insert(event.to_owned(), Arc::new(OfEvent::new(places)))),
            }
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

    /// The configs that an event pulls triggers of, by name.
    pub fn pulled(&self, event: &str, params: &Params) -> Vec<Pulled> {
        let Some(of_event) = self.by_event.get(event) else { return Vec::new() };
        let mut pulled: Vec<Pulled> = Vec::new();
        for (config, trigger) in of_event.candidates(params) {
            if config.unmet(*trigger, params).is_some() {
                continue;
            }
            match pulled.iter_mut().find(|(known, _)| Arc::ptr_eq(known, config)) {
                Some((_, triggers)) => triggers.push(*trigger),
                None => pulled.push((config.clone(), vec![*trigger])),
            }
        }
        pulled.iter_mut().for_each(|(_, triggers)| triggers.sort_unstable());
        pulled.sort_unstable_by(|(a, _), (b, _)| a.config.name.cmp(&b.config.name));
        pulled
    }
}

impl OfEvent {
    /// Each trigger lies at the param in which the triggers differ most.
    fn new(places: Vec<Place>) -> Self {
        let mut values: HashMap<&str, std::collections::HashSet<String>> = HashMap::new();
        for (path, value) in places.iter().flat_map(equalities) {
            values.entry(path).or_default().insert(value);
        }
        let differ: HashMap<String, usize> =
            values.into_iter().map(|(path, values)| (path.to_owned(), values.len())).collect();
        let mut of_event = Self::default();
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
