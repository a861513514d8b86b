//! Semantic checks of type definitions, beyond the JSON schema of their files.

use std::collections::BTreeSet;

use reconcile::{Bundle, BundleDiagnostic, FieldProblem};
use yaml::{FieldPath, list_names, suggest_name};

use super::{
    AccountType, KeyedType, LedgerAttribute, LedgerTypeDefinition, LedgerTypeKind,
    RESERVED_ATTRIBUTE_NAMES,
};

/// Maximum number of attributes of a type, key and auxiliary attributes together.
pub const MAX_ATTRIBUTES_PER_TYPE: usize = 16;
/// Maximum number of groupings of an account type.
pub const MAX_GROUPINGS_PER_TYPE: usize = 16;

/// Checks all types of a bundle.
pub fn check_types(bundle: &Bundle) -> Vec<BundleDiagnostic> {
    let mut diagnostics = Vec::new();
    for kind in LedgerTypeKind::ALL {
        diagnostics.extend(bundle.duplicate_names(kind.schema()));
        for document in bundle.documents_of_schema(kind.schema()) {
            match kind.parse_document(document) {
                Ok(definition) => {
                    diagnostics.extend(
                        definition
                            .find_problems()
                            .into_iter()
                            .map(|problem| document.diagnostic_for(problem)),
                    );
                }
                Err(diagnostic) => diagnostics.push(diagnostic),
            }
        }
    }
    diagnostics
}

impl LedgerTypeDefinition {
    /// Problems of this definition; a definition with problems is never stored.
    pub fn find_problems(&self) -> Vec<FieldProblem> {
        let mut problems = Vec::new();
        name(FieldPath::from("name"), self.name(), &mut problems);
        match self {
            LedgerTypeDefinition::Account(account) => account.add_problems(&mut problems),
            LedgerTypeDefinition::Lock(keyed) | LedgerTypeDefinition::State(keyed) => {
                keyed.add_problems(&mut problems)
            }
        }
        problems
    }
}

impl AccountType {
    fn add_problems(&self, problems: &mut Vec<FieldProblem>) {
        let mut seen = BTreeSet::new();
        check_attributes("key_attributes", &self.key_attributes, &mut seen, problems);
        check_attributes("attributes", &self.attributes, &mut seen, problems);
        check_not_empty("key_attributes", &self.key_attributes, problems);
        if self.key_attributes.len() + self.attributes.len() > MAX_ATTRIBUTES_PER_TYPE {
            problems.push(FieldProblem::new(
                "attributes",
                format!("a type has at most {MAX_ATTRIBUTES_PER_TYPE} attributes in all"),
            ));
        }
        check_subset(
            FieldPath::from("shard_key"),
            &self.shard_key,
            &self.key_attributes,
            "key attribute",
            problems,
        );
        check_not_empty("shard_key", &self.shard_key, problems);
        if self.groupings.len() > MAX_GROUPINGS_PER_TYPE {
            problems.push(FieldProblem::new(
                "groupings",
                format!("a type has at most {MAX_GROUPINGS_PER_TYPE} groupings"),
            ));
        }
        let mut groupings = BTreeSet::new();
        for (n, grouping) in self.groupings.iter().enumerate() {
            let field = FieldPath::from("groupings").with_index(n);
            check_subset(
                field.clone(),
                grouping,
                &self.attributes,
                "auxiliary attribute",
                problems,
            );
            if !groupings.insert(grouping.iter().collect::<BTreeSet<_>>()) {
                problems.push(FieldProblem {
                    field,
                    reason: "the same grouping is there already".to_owned(),
                });
            }
        }
    }
}

impl KeyedType {
    fn add_problems(&self, problems: &mut Vec<FieldProblem>) {
        check_attributes("attributes", &self.attributes, &mut BTreeSet::new(), problems);
        check_not_empty("attributes", &self.attributes, problems);
        if self.attributes.len() > MAX_ATTRIBUTES_PER_TYPE {
            problems.push(FieldProblem::new(
                "attributes",
                format!("a type has at most {MAX_ATTRIBUTES_PER_TYPE} attributes"),
            ));
        }
        check_subset(
            FieldPath::from("shard_key"),
            &self.shard_key,
            &self.attributes,
            "attribute",
            problems,
        );
        check_not_empty("shard_key", &self.shard_key, problems);
    }
}

fn name(field: FieldPath, name: &str, problems: &mut Vec<FieldProblem>) {
    let good = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.len() <= 63
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !good {
        let allowed = "a lower-case letter, then at most 62 lower-case letters, digits and _";
        problems.push(FieldProblem {
            field,
            reason: format!("`{name}` is not allowed (allowed: {allowed})"),
        });
    }
}

fn check_attributes<'a>(
    list: &str,
    attributes: &'a [LedgerAttribute],
    seen: &mut BTreeSet<&'a str>,
    problems: &mut Vec<FieldProblem>,
) {
    for (n, attribute) in attributes.iter().enumerate() {
        let field = FieldPath::from(list).with_index(n).with_key("name");
        name(field.clone(), &attribute.name, problems);
        if RESERVED_ATTRIBUTE_NAMES.contains(&attribute.name.as_str()) {
            let reason = format!(
                "`{}` is reserved, as are all of {}",
                attribute.name,
                list_names(RESERVED_ATTRIBUTE_NAMES)
            );
            problems.push(FieldProblem { field: field.clone(), reason });
        }
        if !seen.insert(&attribute.name) {
            let reason = format!("an attribute `{}` is there already", attribute.name);
            problems.push(FieldProblem { field, reason });
        }
    }
}

/// Checks that each of `names` occurs once and names one of `attributes`.
fn check_subset(
    field: FieldPath,
    names: &[String],
    attributes: &[LedgerAttribute],
    what: &str,
    problems: &mut Vec<FieldProblem>,
) {
    let known: Vec<&str> = attributes.iter().map(|attribute| attribute.name.as_str()).collect();
    for (n, name) in names.iter().enumerate() {
        let field = field.clone().with_index(n);
        if !known.contains(&name.as_str()) {
            let near = suggest_name(name, known.iter().copied());
            let allowed = list_names(known.iter().copied());
            let reason = format!("`{name}` is no {what} of this type{near} (allowed: {allowed})");
            problems.push(FieldProblem { field, reason });
        } else if names[..n].contains(name) {
            problems.push(FieldProblem { field, reason: format!("`{name}` is there already") });
        }
    }
}

fn check_not_empty<T>(field: &str, list: &[T], problems: &mut Vec<FieldProblem>) {
    if list.is_empty() {
        problems.push(FieldProblem::new(field, "at least one is needed"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn problem_texts(kind: LedgerTypeKind, change: Json) -> Vec<String> {
        let attributes = json!([{"name": "k", "type": "int"}, {"name": "l", "type": "int"}]);
        let mut json = match kind {
            LedgerTypeKind::Account => {
                json!({"name": "a", "key_attributes": attributes, "attributes": [{"name": "x", "type": "int"}],
                "groupings": [["x"], []], "shard_key": ["k"], "aggregate": "day"})
            }
            LedgerTypeKind::Lock | LedgerTypeKind::State => {
                json!({"name": "a", "attributes": attributes, "shard_key": ["k"]})
            }
        };
        json.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let problems = kind.parse_definition(json).unwrap().find_problems();
        problems.iter().map(|problem| format!("{}: {}", problem.field, problem.reason)).collect()
    }

    #[test]
    fn sound_types_have_no_problems() {
        for kind in LedgerTypeKind::ALL {
            assert_eq!(problem_texts(kind, json!({})), Vec::<String>::new(), "{kind:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let attribute = |name: &str| json!({"name": name, "type": "int"});
        let cases = [
            (
                LedgerTypeKind::Account,
                json!({"name": "A"}),
                "name: `A` is not allowed (allowed: a lower-case letter, then at most 62 lower-case letters, digits and _)",
            ),
            (
                LedgerTypeKind::Lock,
                json!({"attributes": [attribute("k"), attribute("group_by")]}),
                "attributes[1].name: `group_by` is reserved, as are all of at, from, to, limit, group_by, page_token, explain",
            ),
            (
                LedgerTypeKind::Account,
                json!({"attributes": [attribute("x"), attribute("k")]}),
                "attributes[1].name: an attribute `k` is there already",
            ),
            (
                LedgerTypeKind::Account,
                json!({"shard_key": ["x"]}),
                "shard_key[0]: `x` is no key attribute of this type (allowed: k, l)",
            ),
            (
                LedgerTypeKind::Account,
                json!({"shard_key": []}),
                "shard_key: at least one is needed",
            ),
            (
                LedgerTypeKind::State,
                json!({"shard_key": ["k", "k"]}),
                "shard_key[1]: `k` is there already",
            ),
            (
                LedgerTypeKind::Account,
                json!({"groupings": [["k"]]}),
                "groupings[0][0]: `k` is no auxiliary attribute of this type (allowed: x)",
            ),
            (
                LedgerTypeKind::Account,
                json!({"groupings": [["x"], ["x"]]}),
                "groupings[1]: the same grouping is there already",
            ),
            (
                LedgerTypeKind::Account,
                json!({"attributes": (0..15).map(|n| attribute(&format!("a{n}"))).collect::<Vec<_>>(), "groupings": []}),
                "attributes: a type has at most 16 attributes in all",
            ),
        ];
        for (kind, change, expected) in cases {
            assert_eq!(problem_texts(kind, change.clone()), [expected], "{change}");
        }
    }
}
