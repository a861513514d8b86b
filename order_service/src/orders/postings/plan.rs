//! Plan of the posting rules: from stored and desired state to changes; pure functions.

use std::collections::BTreeMap;

use reconcile::owned::delete_all_refusal;
use reconcile::plan::{FieldChange, PlanAction, diff_fields};
use reconcile::{ObjectOwner, OwnershipOptions, ReconcilePlan};
use serde_json::Value as Json;

use super::check::{KnownAccountTypes, find_rule_problems};
use super::{PostingRule, PostingRuleSet};

const POSTING_RULE_KIND: &str = "posting_rule";

/// Plans the changes from the rules in force to the desired ones. If there are changes and no
/// refusals, the desired rules become the next version.
pub fn plan_posting_rules(
    current: Option<&PostingRuleSet>,
    desired_rules: &[PostingRule],
    types: &KnownAccountTypes,
    options: OwnershipOptions,
) -> ReconcilePlan {
    let OwnershipOptions { owner, take_over, allow_delete_all } = options;
    let mut plan = ReconcilePlan::default();
    refuse_invalid_rules(desired_rules, types, &mut plan);
    let foreign = current
        .map(|set| set.owner)
        .filter(|current| !current.yields_to_bundle() && *current != owner);
    if let Some(foreign) = foreign {
        if desired_rules.is_empty() {
            return ReconcilePlan::default();
        }
        if !take_over {
            let reason = format!(
                "the rules in force belong to {}; --take-over takes them over",
                foreign.name()
            );
            desired_rules.iter().for_each(|rule| {
                plan.add_refusal(PlanAction::Update, POSTING_RULE_KIND, &rule.name, reason.clone())
            });
        }
    }
    if let Some(current) = current.filter(|_| desired_rules.is_empty() && !allow_delete_all) {
        let reason = delete_all_refusal(POSTING_RULE_KIND, current.rules.len());
        current.rules.iter().for_each(|rule| {
            plan.add_refusal(PlanAction::Delete, POSTING_RULE_KIND, &rule.name, reason.clone())
        });
    }
    if plan.refused.is_empty() {
        plan_rule_changes(
            current,
            desired_rules,
            foreign.map(|foreign| (foreign, owner)),
            &mut plan,
        );
    }
    plan
}

/// A rule whose events the ledger would refuse must not come into force: its orders would fail.
fn refuse_invalid_rules(
    desired_rules: &[PostingRule],
    types: &KnownAccountTypes,
    plan: &mut ReconcilePlan,
) {
    for rule in desired_rules {
        let problem_texts: Vec<String> = find_rule_problems(rule, types)
            .into_iter()
            .map(|problem| format!("{}: {}", problem.field, problem.reason))
            .collect();
        if !problem_texts.is_empty() {
            let reason = format!(
                "it does not fit the types in force ({}); reconcile ledger-types first",
                problem_texts.join("; ")
            );
            plan.add_refusal(PlanAction::Update, POSTING_RULE_KIND, &rule.name, reason);
        }
    }
}

fn plan_rule_changes(
    current: Option<&PostingRuleSet>,
    desired_rules: &[PostingRule],
    owners: Option<(ObjectOwner, ObjectOwner)>,
    plan: &mut ReconcilePlan,
) {
    let old_rules = rules_by_name(current.map(|set| set.rules.as_slice()).unwrap_or_default());
    let new_rules = rules_by_name(desired_rules);
    for (name, rule) in &new_rules {
        match old_rules.get(name) {
            None => plan.add_create(POSTING_RULE_KIND, name, rule),
            Some(old) => {
                let mut fields = diff_fields(old, rule);
                fields.extend(
                    owners.map(|(from, to)| FieldChange::new("owner", from.name(), to.name())),
                );
                if !fields.is_empty() {
                    plan.add_update(POSTING_RULE_KIND, name, fields);
                }
            }
        }
    }
    for (name, rule) in old_rules.iter().filter(|(name, _)| !new_rules.contains_key(*name)) {
        plan.add_delete(POSTING_RULE_KIND, name, rule);
    }
}

fn rules_by_name(rules: &[PostingRule]) -> BTreeMap<&str, Json> {
    // Serialising strings and lists to JSON cannot fail.
    rules
        .iter()
        .map(|rule| (rule.name.as_str(), serde_json::to_value(rule).unwrap_or_default()))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::check::KnownAccountType;
    use super::*;

    fn posting_rule(name: &str, debit: &str) -> PostingRule {
        serde_json::from_value(json!({"name": name, "on": "order_process_finished",
            "events": [{"type": "a", "attributes": {}, "debit": debit}]}))
        .unwrap()
    }

    /// The plan as `action name` lines. `take_over` also sets `allow_delete_all`.
    fn plan_lines(
        current: Option<(ObjectOwner, &[PostingRule])>,
        wanted: &[PostingRule],
        take_over: bool,
    ) -> Vec<String> {
        let current = current.map(|(owner, rules)| PostingRuleSet {
            version: 1,
            rules: rules.to_vec(),
            owner,
        });
        let types = KnownAccountTypes::from([("a".to_owned(), KnownAccountType::Broken)]);
        let options =
            OwnershipOptions { owner: ObjectOwner::Bundle, take_over, allow_delete_all: take_over };
        let plan = plan_posting_rules(current.as_ref(), wanted, &types, options);
        let changes =
            plan.changes.iter().map(|change| format!("{:?} {}", change.action, change.name));
        changes
            .chain(plan.refused.iter().map(|refusal| format!("refused {}", refusal.name)))
            .collect()
    }

    #[test]
    fn truth_table() {
        let (one, other, two) =
            (posting_rule("r", "1"), posting_rule("r", "2"), posting_rule("s", "1"));
        let nothing: Vec<String> = Vec::new();
        assert_eq!(plan_lines(None, &[], false), nothing);
        assert_eq!(plan_lines(None, std::slice::from_ref(&one), false), ["Create r"]);
        for owner in [ObjectOwner::Builtin, ObjectOwner::Bundle] {
            let current = Some((owner, std::slice::from_ref(&one)));
            assert_eq!(plan_lines(current, std::slice::from_ref(&one), false), nothing);
            assert_eq!(plan_lines(current, std::slice::from_ref(&other), false), ["Update r"]);
            assert_eq!(plan_lines(current, &[one.clone(), two.clone()], false), ["Create s"]);
            assert_eq!(
                plan_lines(current, std::slice::from_ref(&two), false),
                ["Create s", "Delete r"]
            );
            assert_eq!(plan_lines(current, &[], false), ["refused r"]);
            assert_eq!(plan_lines(current, &[], true), ["Delete r"]);
        }
        for owner in [ObjectOwner::Api, ObjectOwner::Configurator] {
            let current = Some((owner, std::slice::from_ref(&one)));
            assert_eq!(plan_lines(current, std::slice::from_ref(&one), false), ["refused r"]);
            assert_eq!(plan_lines(current, std::slice::from_ref(&one), true), ["Update r"]);
            assert_eq!(
                plan_lines(current, std::slice::from_ref(&two), true),
                ["Create s", "Delete r"]
            );
            assert_eq!(plan_lines(current, &[], false), nothing);
        }
    }

    #[test]
    fn a_rule_that_fits_no_type_does_not_come_into_force() {
        let options = OwnershipOptions {
            owner: ObjectOwner::Bundle,
            take_over: false,
            allow_delete_all: false,
        };
        let plan =
            plan_posting_rules(None, &[posting_rule("r", "1")], &KnownAccountTypes::new(), options);
        assert!(plan.changes.is_empty() && plan.refused.len() == 1, "{plan:?}");
    }
}
