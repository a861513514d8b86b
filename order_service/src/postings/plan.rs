//! From the rules in force and those that are wanted to what is done: pure.

use std::collections::BTreeMap;

use reconcile::owned::{Terms, refusal_to_empty};
use reconcile::plan::{Action, FieldChange, diff};
use reconcile::{Owner, Plan};
use serde_json::Value as Json;

use super::check::{Types, problems};
use super::{Rule, RuleSet};

const KIND: &str = "posting_rule";

/// What brings the rules in force to the wanted ones. If anything changes and nothing is refused, the wanted rules
/// are the next version.
pub fn plan(current: Option<&RuleSet>, wanted: &[Rule], types: &Types, terms: Terms) -> Plan {
    let Terms { owner, take_over, allow_delete_all } = terms;
    let mut plan = Plan::default();
    refuse_misfits(wanted, types, &mut plan);
    let foreign =
        current.map(|set| set.owner).filter(|current| !current.yields_to_bundle() && *current != owner);
    if let Some(foreign) = foreign {
        if wanted.is_empty() {
            return Plan::default();
        }
        if !take_over {
            let reason =
                format!("the rules in force belong to {}; --take-over takes them over", foreign.name());
            wanted.iter().for_each(|rule| plan.refuse(Action::Update, KIND, &rule.name, reason.clone()));
        }
    }
    if let Some(current) = current.filter(|_| wanted.is_empty() && !allow_delete_all) {
        let reason = refusal_to_empty(KIND, current.rules.len());
        current.rules.iter().for_each(|rule| plan.refuse(Action::Delete, KIND, &rule.name, reason.clone()));
    }
    if plan.refused.is_empty() {
        compare(current, wanted, foreign.map(|foreign| (foreign, owner)), &mut plan);
    }
    plan
}

/// A rule that the ledger would refuse the events of must not come into force: its orders would fail.
fn refuse_misfits(wanted: &[Rule], types: &Types, plan: &mut Plan) {
    for rule in wanted {
        let told: Vec<String> = problems(rule, types)
            .into_iter()
            .map(|problem| format!("{}: {}", problem.field, problem.reason))
            .collect();
        if !told.is_empty() {
            let reason = format!(
                "it does not fit the types in force ({}); reconcile ledger-types first",
                told.join("; ")
            );
            plan.refuse(Action::Update, KIND, &rule.name, reason);
        }
    }
}

fn compare(current: Option<&RuleSet>, wanted: &[Rule], owners: Option<(Owner, Owner)>, plan: &mut Plan) {
    let old = by_name(current.map(|set| set.rules.as_slice()).unwrap_or_default());
    let new = by_name(wanted);
    for (name, rule) in &new {
        match old.get(name) {
            None => plan.create(KIND, name, rule),
            Some(old) => {
                let mut fields = diff(old, rule);
                fields.extend(owners.map(|(from, to)| FieldChange::new("owner", from.name(), to.name())));
                if !fields.is_empty() {
                    plan.update(KIND, name, fields);
                }
            }
        }
    }
    for (name, rule) in old.iter().filter(|(name, _)| !new.contains_key(*name)) {
        plan.delete(KIND, name, rule);
    }
}

fn by_name(rules: &[Rule]) -> BTreeMap<&str, Json> {
    // Structs of texts and lists always have a JSON form.
    rules.iter().map(|rule| (rule.name.as_str(), serde_json::to_value(rule).unwrap_or_default())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::check::Known;
    use super::*;

    fn rule(name: &str, debit: &str) -> Rule {
        serde_json::from_value(json!({"name": name, "on": "order_process_finished",
            "events": [{"type": "a", "attributes": {}, "debit": debit}]}))
        .unwrap()
    }

    /// What is planned, as `sign name`. `take_over`: and whatever else there is leave for.
    fn planned(current: Option<(Owner, &[Rule])>, wanted: &[Rule], take_over: bool) -> Vec<String> {
        let current = current.map(|(owner, rules)| RuleSet { version: 1, rules: rules.to_vec(), owner });
        let types = Types::from([("a".to_owned(), Known::Broken)]);
        let terms = Terms { owner: Owner::Bundle, take_over, allow_delete_all: take_over };
        let plan = plan(current.as_ref(), wanted, &types, terms);
        let changes = plan.changes.iter().map(|change| format!("{:?} {}", change.action, change.name));
        changes.chain(plan.refused.iter().map(|refusal| format!("refused {}", refusal.name))).collect()
    }

    #[test]
    fn truth_table() {
        let (one, other, two) = (rule("r", "1"), rule("r", "2"), rule("s", "1"));
        let nothing: Vec<String> = Vec::new();
        assert_eq!(planned(None, &[], false), nothing);
        assert_eq!(planned(None, std::slice::from_ref(&one), false), ["Create r"]);
        for owner in [Owner::Builtin, Owner::Bundle] {
            let current = Some((owner, std::slice::from_ref(&one)));
            assert_eq!(planned(current, std::slice::from_ref(&one), false), nothing);
            assert_eq!(planned(current, std::slice::from_ref(&other), false), ["Update r"]);
            assert_eq!(planned(current, &[one.clone(), two.clone()], false), ["Create s"]);
            assert_eq!(planned(current, std::slice::from_ref(&two), false), ["Create s", "Delete r"]);
            assert_eq!(planned(current, &[], false), ["refused r"]);
            assert_eq!(planned(current, &[], true), ["Delete r"]);
        }
        for owner in [Owner::Api, Owner::Configurator] {
            let current = Some((owner, std::slice::from_ref(&one)));
            assert_eq!(planned(current, std::slice::from_ref(&one), false), ["refused r"]);
            assert_eq!(planned(current, std::slice::from_ref(&one), true), ["Update r"]);
            assert_eq!(planned(current, std::slice::from_ref(&two), true), ["Create s", "Delete r"]);
            assert_eq!(planned(current, &[], false), nothing);
        }
    }

    #[test]
    fn a_rule_that_fits_no_type_does_not_come_into_force() {
        let terms = Terms { owner: Owner::Bundle, take_over: false, allow_delete_all: false };
        let plan = plan(None, &[rule("r", "1")], &Types::new(), terms);
        assert!(plan.changes.is_empty() && plan.refused.len() == 1, "{plan:?}");
    }
}
