//! From the schedules that are there and those that are wanted to what is done: pure.

use reconcile::plan::{Action, FieldChange, diff};
use reconcile::{Owner, Plan};

use super::{Scheduled, Stored};

const KIND: &str = "schedule";

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
    /// Schedules to create or change.
    pub put: Vec<Scheduled>,
    /// Schedules to delete, by name.
    pub delete: Vec<String>,
}

/// What brings the stored schedules to the wanted ones.
pub fn plan(stored: &[Stored], wanted: &[Scheduled], terms: Terms) -> Steps {
    let mut steps = Steps::default();
    for new in wanted {
        match stored.iter().find(|stored| stored.scheduled.name == new.name) {
            None => {
                steps.plan.create(KIND, &new.name, &new.to_json());
                steps.put.push(new.clone());
            }
            Some(old) => change(old, new, terms, &mut steps),
        }
    }
    let wanted = |stored: &&Stored| wanted.iter().any(|new| new.name == stored.scheduled.name);
    for old in stored.iter().filter(|stored| !wanted(stored) && stored.owner.yields_to_bundle()) {
        steps.plan.delete(KIND, &old.scheduled.name, &old.scheduled.to_json());
        steps.delete.push(old.scheduled.name.clone());
    }
    steps
}

fn change(old: &Stored, new: &Scheduled, terms: Terms, steps: &mut Steps) {
    let foreign = !old.owner.yields_to_bundle() && old.owner != terms.owner;
    if foreign && !terms.take_over {
        let reason = format!("it belongs to {}; --take-over takes it over", old.owner.name());
        return steps.plan.refuse(Action::Update, KIND, &new.name, reason);
    }
    let mut fields = diff(&old.scheduled.to_json(), &new.to_json());
    if foreign {
        fields.push(FieldChange::new("owner", old.owner.name(), terms.owner.name()));
    }
    if !fields.is_empty() {
        steps.plan.update(KIND, &new.name, fields);
    } else if old.owner != terms.owner {
        steps.plan.adopted += 1;
    } else {
        return;
    }
    steps.put.push(new.clone());
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use serde_json::json;

    use super::*;

    fn scheduled(name: &str, schedule: &str) -> Scheduled {
        serde_json::from_value(json!({"name": name, "schedule": schedule, "task_type": "t"})).unwrap()
    }

    /// What is planned, as `action name`.
    fn planned(stored: &[(Owner, Scheduled)], wanted: &[Scheduled], take_over: bool) -> Vec<String> {
        let stored = stored.iter().map(|(owner, scheduled)| Stored {
            scheduled: scheduled.clone(),
            owner: *owner,
            done_until: Utc::now(),
        });
        let steps = plan(&stored.collect::<Vec<_>>(), wanted, Terms { owner: Owner::Bundle, take_over });
        let plan = steps.plan;
        let changes = plan.changes.iter().map(|change| format!("{:?} {}", change.action, change.name));
        let refused = plan.refused.iter().map(|refusal| format!("refused {}", refusal.name));
        let adopted = (0..plan.adopted).map(|_| "adopted".to_owned());
        changes.chain(refused).chain(adopted).collect()
    }

    #[test]
    fn truth_table() {
        let (one, other, two) =
            (scheduled("r", "1 * * * *"), scheduled("r", "2 * * * *"), scheduled("s", "1 * * * *"));
        let nothing: Vec<String> = Vec::new();
        assert_eq!(planned(&[], std::slice::from_ref(&one), false), ["Create r"]);
        for (owner, unchanged) in
            [(Owner::Builtin, vec!["adopted".to_owned()]), (Owner::Bundle, nothing.clone())]
        {
            let stored = [(owner, one.clone())];
            assert_eq!(planned(&stored, std::slice::from_ref(&one), false), unchanged);
            assert_eq!(planned(&stored, std::slice::from_ref(&other), false), ["Update r"]);
            assert_eq!(planned(&stored, std::slice::from_ref(&two), false), ["Create s", "Delete r"]);
            assert_eq!(planned(&stored, &[], false), ["Delete r"]);
        }
        for owner in [Owner::Api, Owner::Configurator] {
            let stored = [(owner, one.clone())];
            assert_eq!(planned(&stored, std::slice::from_ref(&one), false), ["refused r"]);
            assert_eq!(planned(&stored, std::slice::from_ref(&one), true), ["Update r"]);
            assert_eq!(planned(&stored, std::slice::from_ref(&two), false), ["Create s"]);
            assert_eq!(planned(&stored, &[], true), nothing);
        }
    }
}
