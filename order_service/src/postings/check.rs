//! Whether a rule's events fit the account types they go to: pure.

use std::collections::BTreeMap;

use ledger::amount;
use ledger::types::{AccountType, Attribute, AttributeType, Kind};
use reconcile::{Bundle, Diagnostic, Field, Named, Problem, listed, suggestion};

use super::{Rule, RuleEvent, Source};

/// The schema of the rules' files.
pub const RULE_SCHEMA: &str = "/postings/posting-rule-1.yml";

/// What is known of the account types.
pub type Types = BTreeMap<String, Known>;

/// What is known of one.
#[derive(Debug, Clone)]
pub enum Known {
    /// It is this.
    Type(Box<AccountType>),
    /// It is there, but its file is wrong: nothing is said about events of it.
    Broken,
}

/// Looks at all rules of a bundle.
pub fn check_rules(bundle: &Bundle) -> Vec<Diagnostic> {
    let mut wrong = bundle.same_names(RULE_SCHEMA);
    let types = account_types(bundle);
    for document in bundle.documents(RULE_SCHEMA) {
        let rule: Rule = match document.parse() {
            Ok(rule) => rule,
            Err(diagnostic) => {
                wrong.push(diagnostic);
                continue;
            }
        };
        let mut types = types.clone();
        for event in &rule.events {
            // A type whose file is wrong is said once, there.
            if let Named::Broken = bundle.named(Kind::Account.schema(), &event.event_type) {
                types.insert(event.event_type.clone(), Known::Broken);
            }
        }
        wrong.extend(problems(&rule, &types).into_iter().map(|problem| document.diagnostic(problem)));
    }
    wrong
}

fn account_types(bundle: &Bundle) -> Types {
    let known = |document: &reconcile::Document| {
        let known = document.parse().map_or(Known::Broken, |parsed| Known::Type(Box::new(parsed)));
        Some((document.name()?.to_owned(), known))
    };
    bundle.documents(Kind::Account.schema()).filter_map(known).collect()
}

/// What is wrong with a rule, given the account types there are.
pub fn problems(rule: &Rule, types: &Types) -> Vec<Problem> {
    let mut wrong = Vec::new();
    for (n, event) in rule.events.iter().enumerate() {
        let at = Field::from("events").index(n);
        amounts(event, &at, &mut wrong);
        match types.get(&event.event_type) {
            Some(Known::Type(account)) => attributes(event, account, &at, &mut wrong),
            Some(Known::Broken) => {}
            None => {
                let names = || types.keys().map(String::as_str);
                let (near, known) = (suggestion(&event.event_type, names()), listed(names()));
                let reason =
                    format!("there is no account type `{}`{near} (known: {known})", event.event_type);
                wrong.push(Problem { field: at.key("type"), reason });
            }
        }
    }
    wrong
}

fn amounts(event: &RuleEvent, at: &Field, wrong: &mut Vec<Problem>) {
    match (&event.debit, &event.credit) {
        (Some(_), None) | (None, Some(_)) => {}
        (Some(_), Some(_)) => {
            let reason = "an event has either debit or credit, not both".to_owned();
            wrong.push(Problem { field: at.clone().key("credit"), reason });
        }
        (None, None) => {
            let reason = "debit or credit is missing: the amount, such as \"1\"".to_owned();
            wrong.push(Problem { field: at.clone(), reason });
        }
    }
    for (side, text) in [("debit", &event.debit), ("credit", &event.credit)] {
        if let Some(text) = text.as_ref().filter(|text| amount::parse(text).is_none()) {
            let reason = format!("`{text}` is no amount (allowed: {})", amount::ALLOWED);
            wrong.push(Problem { field: at.clone().key(side), reason });
        }
    }
}

fn attributes(event: &RuleEvent, account: &AccountType, at: &Field, wrong: &mut Vec<Problem>) {
    let at = at.clone().key("attributes");
    let all = || account.key_attributes.iter().chain(&account.attributes);
    for (name, source) in &event.attributes {
        let field = at.clone().key(name.clone());
        let known = || all().map(|attribute| attribute.name.as_str());
        match all().find(|attribute| attribute.name == *name) {
            Some(attribute) => {
                wrong.extend(misfit(source, attribute).map(|reason| Problem { field, reason }))
            }
            None => {
                let (near, known) = (suggestion(name, known()), listed(known()));
                let reason = format!("{} has no attribute `{name}`{near} (known: {known})", account.name);
                wrong.push(Problem { field, reason });
            }
        }
    }
    for attribute in &account.key_attributes {
        if !event.attributes.contains_key(&attribute.name) {
            let reason = format!("is missing: a key attribute of {}", account.name);
            wrong.push(Problem { field: at.clone().key(attribute.name.clone()), reason });
        }
    }
}

/// Why a value from `source` is none of the attribute's.
fn misfit(source: &Source, attribute: &Attribute) -> Option<String> {
    match source {
        Source::From(_) if attribute.kind == AttributeType::Int => None,
        Source::From(_) => Some(format!(
            "the fields of an order are whole numbers, and `{}` is {}",
            attribute.name,
            attribute.kind.allowed()
        )),
        Source::Value(value) => match attribute.kind.canonical_json(&value.to_string()) {
            Some(_) => None,
            None => Some(format!("`{value}` is not {}", attribute.kind.allowed())),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn told(event: Json) -> Vec<String> {
        let account: AccountType = serde_json::from_value(json!({
            "name": "a", "key_attributes": [{"name": "k", "type": "int"}],
            "attributes": [{"name": "x", "type": "string"}, {"name": "y", "type": "date"}],
            "shard_key": ["k"], "aggregate": "day",
        }))
        .unwrap();
        let types =
            Types::from([("a".to_owned(), Known::Type(Box::new(account))), ("b".to_owned(), Known::Broken)]);
        let rule = json!({"name": "r", "on": "order_process_finished", "events": [event]});
        let problems = problems(&serde_json::from_value(rule).unwrap(), &types);
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
                vec!["events[0].type: there is no account type `aa`, did you mean `a`? (known: a, b)"],
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
            assert_eq!(told(event.clone()), expected, "{event}");
        }
        for amount in ["-1", "1e3", "1.0000000001", "1000000000000000", "", "1."] {
            let told = told(json!({"type": "a", "attributes": {"k": from}, "debit": amount}));
            assert!(told.len() == 1 && told[0].starts_with("events[0].debit: "), "{amount}: {told:?}");
        }
    }
}
