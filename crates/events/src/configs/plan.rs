//! From the configs that are there and those that are wanted to what is done: pure.

use reconcile::plan::{Action, FieldChange, diff};
use reconcile::{Owner, Plan};
use serde_json::Value;

use super::{ActionConfig, Stored};

/// What kind of object it is, in plans.
pub const KIND: &str = "action_config";

/// Who wants it.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Who owns what is written.
    pub owner: Owner,
    /// Whether what belongs to others is taken over.
    pub take_over: bool,
}

/// What is done.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Steps {
    /// For people and programs.
    pub plan: Plan,
    /// Configs to create or change.
    pub put: Vec<ActionConfig>,
    /// Configs to delete, by name.
    pub delete: Vec<String>,
    /// Wanted configs that are there as they are wanted.
    pub unchanged: Vec<String>,
}

/// What brings the stored configs to the wanted ones.
pub fn plan(stored: &[Stored], wanted: &[ActionConfig], terms: Terms) -> Steps {
    let mut steps = Steps::default();
    for new in wanted {
        let new = &ActionConfig {
            author: Some(new.author.clone().unwrap_or_else(|| terms.owner.name().to_owned())),
            ..new.clone()
        };
        match stored.iter().find(|stored| stored.config.name == new.name) {
            None => {
                steps.plan.create(KIND, &new.name, &shown(new));
                steps.put.push(new.clone());
            }
            Some(old) => change(old, new, terms, &mut steps),
        }
    }
    let wanted = |stored: &&Stored| wanted.iter().any(|new| new.name == stored.config.name);
    for old in stored.iter().filter(|stored| !wanted(stored) && stored.owner.yields_to_bundle()) {
        steps.plan.delete(KIND, &old.config.name, &shown(&old.config));
        steps.delete.push(old.config.name.clone());
    }
    steps
}

fn change(old: &Stored, new: &ActionConfig, terms: Terms, steps: &mut Steps) {
    let foreign = !old.owner.yields_to_bundle() && old.owner != terms.owner;
    if foreign && !terms.take_over {
        let reason = format!("it belongs to {}; --take-over takes it over", old.owner.name());
        return steps.plan.refuse(Action::Update, KIND, &new.name, reason);
    }
    let mut fields = diff(&shown(&old.config), &shown(new));
    if foreign {
        fields.push(FieldChange::new("owner", old.owner.name(), terms.owner.name()));
    }
    if !fields.is_empty() {
        steps.plan.update(KIND, &new.name, fields);
    } else {
        steps.unchanged.push(new.name.clone());
        if old.owner == terms.owner {
            return;
        }
        steps.plan.adopted += 1;
    }
    steps.put.push(new.clone());
}

/// Each with the same members in the same order, whoever stored it.
fn shown(config: &ActionConfig) -> Value {
    config.to_json()
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use serde_json::json;

    use super::*;

    fn config(name: &str, event: &str) -> ActionConfig {
        let config =
            json!({"name": name, "author": "a", "on": [{"event": event}], "action": {"task": "noop"}});
        serde_json::from_value(config).unwrap()
    }

    /// What is planned, as `action name`.
    fn planned(stored: &[(Owner, ActionConfig)], wanted: &[ActionConfig], take_over: bool) -> Vec<String> {
        let stored: Vec<Stored> = stored
            .iter()
            .map(|(owner, config)| Stored { config: config.clone(), owner: *owner, changed_at: Utc::now() })
            .collect();
        let steps = plan(&stored, wanted, Terms { owner: Owner::Bundle, take_over });
        let changes = steps.plan.changes.iter().map(|change| format!("{:?} {}", change.action, change.name));
        let refused = steps.plan.refused.iter().map(|refusal| format!("refused {}", refusal.name));
        let unchanged = steps.unchanged.iter().map(|name| format!("unchanged {name}"));
        let adopted = (0..steps.plan.adopted).map(|_| "adopted".to_owned());
        changes.chain(refused).chain(unchanged).chain(adopted).collect()
    }

    #[test]
    fn truth_table() {
        let (one, other, two) = (config("c", "e"), config("c", "f"), config("d", "e"));
        let nothing: Vec<String> = Vec::new();
        assert_eq!(planned(&[], std::slice::from_ref(&one), false), ["Create c"]);
        for (owner, same) in
            [(Owner::Builtin, vec!["unchanged c", "adopted"]), (Owner::Bundle, vec!["unchanged c"])]
        {
            let stored = [(owner, one.clone())];
            assert_eq!(planned(&stored, std::slice::from_ref(&one), false), same);
            assert_eq!(planned(&stored, std::slice::from_ref(&other), false), ["Update c"]);
            assert_eq!(planned(&stored, std::slice::from_ref(&two), false), ["Create d", "Delete c"]);
        }
        for owner in [Owner::Api, Owner::Configurator] {
            let stored = [(owner, one.clone())];
            assert_eq!(planned(&stored, std::slice::from_ref(&one), false), ["refused c"]);
            assert_eq!(planned(&stored, std::slice::from_ref(&one), true), ["Update c"]);
            assert_eq!(planned(&stored, &[], true), nothing);
        }
    }
}
