//! Validation of posting rules against the account types they post to; pure functions.

use std::collections::BTreeMap;

use ledger::amount;
use ledger::types::{AccountType, AttributeType, LedgerAttribute, LedgerTypeKind};
use reconcile::{Bundle, BundleDiagnostic, DocumentLookup, FieldProblem};
use yaml::{FieldPath, list_names, suggest_name};

use super::{PostingRule, PostingRuleEvent, PostingValueSource};

/// Schema path of posting rule files.
pub const POSTING_RULE_SCHEMA: &str = "/postings/posting-rule-1.yml";

/// Account types by name.
pub type KnownAccountTypes = BTreeMap<String, KnownAccountType>;

/// An account type for validation.
#[derive(Debug, Clone)]
pub enum KnownAccountType {
    /// A valid account type.
    Type(Box<AccountType>),
    /// It exists, but its file is invalid: events of this type are not checked.
    Broken,
}

/// Validates all posting rules of a bundle.
pub fn check_posting_rules(bundle: &Bundle) -> Vec<BundleDiagnostic> {
    let mut diagnostics = bundle.duplicate_names(POSTING_RULE_SCHEMA);
    let types = bundle_account_types(bundle);
    for document in bundle.documents_of_schema(POSTING_RULE_SCHEMA) {
        let rule: PostingRule = match document.parse() {
            Ok(rule) => rule,
            Err(diagnostic) => {
                diagnostics.push(diagnostic);
                continue;
            }
        };
        let mut types = types.clone();
        for event in &rule.events {
            // An invalid type is reported once, for its own file.
            if let DocumentLookup::Invalid =
                bundle.find_document(LedgerTypeKind::Account.schema(), &event.event_type)
            {
                types.insert(event.event_type.clone(), KnownAccountType::Broken);
            }
        }
        diagnostics.extend(
            find_rule_problems(&rule, &types)
                .into_iter()
                .map(|problem| document.diagnostic_for(problem)),
        );
    }
    diagnostics
}

fn bundle_account_types(bundle: &Bundle) -> KnownAccountTypes {
    let mut types = KnownAccountTypes::new();
    for document in bundle.documents_of_schema(LedgerTypeKind::Account.schema()) {
        let Some(name) = document.name() else { continue };
        let known = match document.parse() {
            Ok(account) => KnownAccountType::Type(Box::new(account)),
            Err(_) => KnownAccountType::Broken,
        };
        types.insert(name.to_owned(), known);
    }
    types
}

/// The problems of a rule with these account types.
pub fn find_rule_problems(rule: &PostingRule, types: &KnownAccountTypes) -> Vec<FieldProblem> {
    let mut problems = Vec::new();
    for (index, event) in rule.events.iter().enumerate() {
        let path = FieldPath::from("events").with_index(index);
        check_amounts(event, &path, &mut problems);
        match types.get(&event.event_type) {
            Some(KnownAccountType::Type(account)) => {
                check_attributes(event, account, &path, &mut problems)
            }
            Some(KnownAccountType::Broken) => {}
            None => {
                let names = types.keys().map(String::as_str);
                let near = suggest_name(&event.event_type, names.clone());
                let known = list_names(names);
                let reason = format!(
                    "there is no account type `{}`{near} (known: {known})",
                    event.event_type
                );
                problems.push(FieldProblem { field: path.with_key("type"), reason });
            }
        }
    }
    problems
}

fn check_amounts(event: &PostingRuleEvent, path: &FieldPath, problems: &mut Vec<FieldProblem>) {
    match (&event.debit, &event.credit) {
        (Some(_), None) | (None, Some(_)) => {}
        (Some(_), Some(_)) => {
            let reason = "an event has either debit or credit, not both".to_owned();
            problems.push(FieldProblem { field: path.clone().with_key("credit"), reason });
        }
        (None, None) => {
            let reason = "debit or credit is missing: the amount, such as \"1\"".to_owned();
            problems.push(FieldProblem { field: path.clone(), reason });
        }
    }
    for (side, text) in [("debit", &event.debit), ("credit", &event.credit)] {
        if let Some(text) = text.as_ref().filter(|text| amount::parse_amount(text).is_none()) {
            let reason = format!("`{text}` is no amount (allowed: {})", amount::AMOUNT_FORMAT);
            problems.push(FieldProblem { field: path.clone().with_key(side), reason });
        }
    }
}

fn check_attributes(
    event: &PostingRuleEvent,
    account: &AccountType,
    path: &FieldPath,
    problems: &mut Vec<FieldProblem>,
) {
    let path = path.clone().with_key("attributes");
    let known_attributes = account.key_attributes.iter().chain(&account.attributes);
    for (name, source) in &event.attributes {
        let field = path.clone().with_key(name.clone());
        match known_attributes.clone().find(|attribute| attribute.name == *name) {
            Some(attribute) => problems.extend(
                source_mismatch(source, attribute).map(|reason| FieldProblem { field, reason }),
            ),
            None => {
                let names = known_attributes.clone().map(|attribute| attribute.name.as_str());
                let (near, known) = (suggest_name(name, names.clone()), list_names(names));
                let reason =
                    format!("{} has no attribute `{name}`{near} (known: {known})", account.name);
                problems.push(FieldProblem { field, reason });
            }
        }
    }
    for attribute in &account.key_attributes {
        if !event.attributes.contains_key(&attribute.name) {
            let reason = format!("is missing: a key attribute of {}", account.name);
            problems.push(FieldProblem {
                field: path.clone().with_key(attribute.name.clone()),
                reason,
            });
        }
    }
}

/// Why `source` does not have the attribute's type; `None` if it does.
fn source_mismatch(source: &PostingValueSource, attribute: &LedgerAttribute) -> Option<String> {
    match source {
        PostingValueSource::From(_) if attribute.kind == AttributeType::Int => None,
        PostingValueSource::From(_) => Some(format!(
            "the fields of an order are whole numbers, and `{}` is {}",
            attribute.name,
            attribute.kind.allowed_values()
        )),
        PostingValueSource::Value(value) => match attribute.kind.canonical_json(&value.to_string())
        {
            Some(_) => None,
            None => Some(format!("`{value}` is not {}", attribute.kind.allowed_values())),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn problem_texts(event: Json) -> Vec<String> {
        let account: AccountType = serde_json::from_value(json!({
            "name": "a", "key_attributes": [{"name": "k", "type": "int"}],
            "attributes": [{"name": "x", "type": "string"}, {"name": "y", "type": "date"}],
            "shard_key": ["k"], "aggregate": "day",
        }))
        .unwrap();
        let types = KnownAccountTypes::from([
            ("a".to_owned(), KnownAccountType::Type(Box::new(account))),
            ("b".to_owned(), KnownAccountType::Broken),
        ]);
        let rule = json!({"name": "r", "on": "order_process_finished", "events": [event]});
        let problems = find_rule_problems(&serde_json::from_value(rule).unwrap(), &types);
        problems.iter().map(|problem| format!("{}: {}", problem.field, problem.reason)).collect()
    }

    #[test]
    fn truth_table() {
        let from = json!({"from": "order_id"});
        let table = [
            (json!({"type": "a", "attributes": {"k": from}, "debit": "1"}), vec![]),
            (
                json!({"type": "a", "attributes": {"k": {"value": 7}, "x": {"value": "t"}, "y": {"value": "2024-02-29"}}, "credit": "0.000000001"}),
                vec![],
            ),
            (json!({"type": "b", "attributes": {"z": from}, "debit": "1"}), vec![]),
            (
                json!({"type": "aa", "attributes": {}, "debit": "1"}),
                vec![
                    "events[0].type: there is no account type `aa`, did you mean `a`? (known: a, b)",
                ],
            ),
            (
                json!({"type": "a", "attributes": {"x": {"value": "t"}}, "debit": "1"}),
                vec!["events[0].attributes.k: is missing: a key attribute of a"],
            ),
            (
                json!({"type": "a", "attributes": {"k": from, "z": from}, "debit": "1"}),
                vec!["events[0].attributes.z: a has no attribute `z` (known: k, x, y)"],
            ),
            (
                json!({"type": "a", "attributes": {"k": from, "x": from}, "debit": "1"}),
                vec![
                    "events[0].attributes.x: the fields of an order are whole numbers, and `x` is a string of at most 256 bytes without NUL",
                ],
            ),
            (
                json!({"type": "a", "attributes": {"k": {"value": "7"}}, "debit": "1"}),
                vec!["events[0].attributes.k: `\"7\"` is not a whole number of 64 bits"],
            ),
            (
                json!({"type": "a", "attributes": {"k": from}}),
                vec!["events[0]: debit or credit is missing: the amount, such as \"1\""],
            ),
            (
                json!({"type": "a", "attributes": {"k": from}, "debit": "1", "credit": "1"}),
                vec!["events[0].credit: an event has either debit or credit, not both"],
            ),
        ];
        for (event, expected) in table {
            assert_eq!(problem_texts(event.clone()), expected, "{event}");
        }
    }

    #[test]
    fn an_amount_is_a_plain_decimal_within_bounds() {
        let from = json!({"from": "order_id"});
        for amount in ["-1", "1e3", "1.0000000001", "1000000000000000", "", "1."] {
            let problems =
                problem_texts(json!({"type": "a", "attributes": {"k": from}, "debit": amount}));
            assert!(
                problems.len() == 1 && problems[0].starts_with("events[0].debit: "),
                "{amount}: {problems:?}"
            );
        }
    }
}
