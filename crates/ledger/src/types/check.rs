//! What a type must keep to that its file's schema cannot say.

use std::collections::BTreeSet;

use reconcile::{Bundle, Diagnostic, Field, Problem, listed, suggestion};

use super::{AccountType, Attribute, Definition, KeyedType, Kind, RESERVED};

/// Most attributes of a type, key and auxiliary ones together.
pub const MOST_ATTRIBUTES: usize = 16;
/// Most groupings of a type.
pub const MOST_GROUPINGS: usize = 16;

/// Looks at all types of a bundle.
pub fn check_types(bundle: &Bundle) -> Vec<Diagnostic> {
    let mut wrong = Vec::new();
    for kind in Kind::ALL {
        wrong.extend(bundle.same_names(kind.schema()));
        for document in bundle.documents(kind.schema()) {
            match kind.of(document) {
                Ok(definition) => {
                    wrong.extend(
                        definition.problems().into_iter().map(|problem| document.diagnostic(problem)),
                    );
                }
                Err(diagnostic) => wrong.push(diagnostic),
            }
        }
    }
    wrong
}

impl Definition {
    /// What is wrong with it; nothing is stored that has any.
    pub fn problems(&self) -> Vec<Problem> {
        let mut wrong = Vec::new();
        name(Field::from("name"), self.name(), &mut wrong);
        match self {
            Definition::Account(account) => account.problems(&mut wrong),
            Definition::Lock(keyed) | Definition::State(keyed) => keyed.problems(&mut wrong),
        }
        wrong
    }
}

impl AccountType {
    fn problems(&self, wrong: &mut Vec<Problem>) {
        let mut seen = BTreeSet::new();
        attributes("key_attributes", &self.key_attributes, &mut seen, wrong);
        attributes("attributes", &self.attributes, &mut seen, wrong);
        some("key_attributes", &self.key_attributes, wrong);
        if self.key_attributes.len() + self.attributes.len() > MOST_ATTRIBUTES {
            wrong.push(Problem::new(
                "attributes",
                format!("a type has at most {MOST_ATTRIBUTES} attributes in all"),
            ));
        }
        subset(Field::from("shard_key"), &self.shard_key, &self.key_attributes, "key attribute", wrong);
        some("shard_key", &self.shard_key, wrong);
        if self.groupings.len() > MOST_GROUPINGS {
            wrong.push(Problem::new("groupings", format!("a type has at most {MOST_GROUPINGS} groupings")));
        }
        let mut groupings = BTreeSet::new();
        for (n, grouping) in self.groupings.iter().enumerate() {
            let field = Field::from("groupings").index(n);
            subset(field.clone(), grouping, &self.attributes, "auxiliary attribute", wrong);
            if !groupings.insert(grouping.iter().collect::<BTreeSet<_>>()) {
                wrong.push(Problem { field, reason: "the same grouping is there already".to_owned() });
            }
        }
    }
}

impl KeyedType {
    fn problems(&self, wrong: &mut Vec<Problem>) {
        attributes("attributes", &self.attributes, &mut BTreeSet::new(), wrong);
        some("attributes", &self.attributes, wrong);
        if self.attributes.len() > MOST_ATTRIBUTES {
            wrong
                .push(Problem::new("attributes", format!("a type has at most {MOST_ATTRIBUTES} attributes")));
        }
        subset(Field::from("shard_key"), &self.shard_key, &self.attributes, "attribute", wrong);
        some("shard_key", &self.shard_key, wrong);
    }
}

fn name(field: Field, name: &str, wrong: &mut Vec<Problem>) {
    let good = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.len() <= 63
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !good {
        let allowed = "a lower-case letter, then at most 62 lower-case letters, digits and _";
        wrong.push(Problem { field, reason: format!("`{name}` is not allowed (allowed: {allowed})") });
    }
}

fn attributes<'a>(
    list: &str,
    attributes: &'a [Attribute],
    seen: &mut BTreeSet<&'a str>,
    wrong: &mut Vec<Problem>,
) {
    for (n, attribute) in attributes.iter().enumerate() {
        let field = Field::from(list).index(n).key("name");
        name(field.clone(), &attribute.name, wrong);
        if RESERVED.contains(&attribute.name.as_str()) {
            let reason = format!("`{}` is reserved, as are all of {}", attribute.name, listed(RESERVED));
            wrong.push(Problem { field: field.clone(), reason });
        }
        if !seen.insert(&attribute.name) {
            let reason = format!("an attribute `{}` is there already", attribute.name);
            wrong.push(Problem { field, reason });
        }
    }
}

/// Each of `names` is one of `attributes`, and is there once.
fn subset(field: Field, names: &[String], attributes: &[Attribute], what: &str, wrong: &mut Vec<Problem>) {
    let known = || attributes.iter().map(|attribute| attribute.name.as_str());
    for (n, name) in names.iter().enumerate() {
        let field = field.clone().index(n);
        if !known().any(|known| known == name) {
            let (near, allowed) = (suggestion(name, known()), listed(known()));
            let reason = format!("`{name}` is no {what} of this type{near} (allowed: {allowed})");
            wrong.push(Problem { field, reason });
        } else if names[..n].contains(name) {
            wrong.push(Problem { field, reason: format!("`{name}` is there already") });
        }
    }
}

fn some<T>(field: &str, list: &[T], wrong: &mut Vec<Problem>) {
    if list.is_empty() {
        wrong.push(Problem::new(field, "at least one is needed"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn told(kind: Kind, change: Json) -> Vec<String> {
        let attributes = json!([{"name": "k", "type": "int"}, {"name": "l", "type": "int"}]);
        let mut json = match kind {
            Kind::Account => {
                json!({"name": "a", "key_attributes": attributes, "attributes": [{"name": "x", "type": "int"}],
                "groupings": [["x"], []], "shard_key": ["k"], "aggregate": "day"})
            }
            Kind::Lock | Kind::State => json!({"name": "a", "attributes": attributes, "shard_key": ["k"]}),
        };
        json.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let problems = kind.definition(json).unwrap().problems();
        problems.iter().map(|problem| format!("{}: {}", problem.field, problem.reason)).collect()
    }

    #[test]
    fn sound_types_have_no_problems() {
        for kind in Kind::ALL {
            assert_eq!(told(kind, json!({})), Vec::<String>::new(), "{kind:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let attribute = |name: &str| json!({"name": name, "type": "int"});
        let cases = [
            (
                Kind::Account,
                json!({"name": "A"}),
                "name: `A` is not allowed (allowed: a lower-case letter, then at most 62 lower-case letters, digits and _)",
            ),
            (
                Kind::Lock,
                json!({"attributes": [attribute("k"), attribute("group_by")]}),
                "attributes[1].name: `group_by` is reserved, as are all of at, from, to, limit, group_by, page_token, explain",
            ),
            (
                Kind::Account,
                json!({"attributes": [attribute("x"), attribute("k")]}),
                "attributes[1].name: an attribute `k` is there already",
            ),
            (
                Kind::Account,
                json!({"shard_key": ["x"]}),
                "shard_key[0]: `x` is no key attribute of this type (allowed: k, l)",
            ),
            (Kind::Account, json!({"shard_key": []}), "shard_key: at least one is needed"),
            (Kind::State, json!({"shard_key": ["k", "k"]}), "shard_key[1]: `k` is there already"),
            (
                Kind::Account,
                json!({"groupings": [["k"]]}),
                "groupings[0][0]: `k` is no auxiliary attribute of this type (allowed: x)",
            ),
            (
                Kind::Account,
                json!({"groupings": [["x"], ["x"]]}),
                "groupings[1]: the same grouping is there already",
            ),
            (
                Kind::Account,
                json!({"attributes": (0..15).map(|n| attribute(&format!("a{n}"))).collect::<Vec<_>>(), "groupings": []}),
                "attributes: a type has at most 16 attributes in all",
            ),
        ];
        for (kind, change, expected) in cases {
            assert_eq!(told(kind, change.clone()), [expected], "{change}");
        }
    }
}
