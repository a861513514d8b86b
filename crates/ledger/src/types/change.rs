//! Which changes of a type are safe: a pure function of the old one and the new one.

use std::collections::BTreeSet;

use super::{AccountType, Attribute, Definition, KeyedType};

/// Why a type must not change as wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Objection {
    /// Whatever there is of it.
    Always(String),
    /// As long as something uses it.
    WhileUsed(String),
}

/// What speaks against changing `old` into `new`, or against deleting it.
pub fn objections(old: &Definition, new: Option<&Definition>) -> Vec<Objection> {
    match (old, new) {
        (Definition::Account(old), Some(Definition::Account(new))) => accounts(old, new),
        (Definition::Lock(old), Some(Definition::Lock(new)))
        | (Definition::State(old), Some(Definition::State(new))) => keyed(old, new),
        // A name is unique within a kind: another kind is another type.
        _ => vec![Objection::WhileUsed(
            "leave its file in the bundle until nothing of it is left and no rule refers to it".to_owned(),
        )],
    }
}

fn accounts(old: &AccountType, new: &AccountType) -> Vec<Objection> {
    let mut objections = Vec::new();
    key("key_attributes", &old.key_attributes, &new.key_attributes, &mut objections);
    shard_key(&old.shard_key, &new.shard_key, &mut objections);
    for attribute in &old.attributes {
        let name = &attribute.name;
        match new.attributes.iter().find(|new| new.name == *name) {
            Some(new) if new.kind != attribute.kind => objections.push(Objection::Always(format!(
                "attributes: `{name}` is of type {} for ever; add an attribute with another name",
                attribute.kind
            ))),
            Some(_) => {}
            None => objections.push(Objection::WhileUsed(format!(
                "attributes: keep `{name}` (events may leave it out), or describe a new type under another name"
            ))),
        }
    }
    let groupings: BTreeSet<BTreeSet<&String>> = new.groupings.iter().map(|names| set(names)).collect();
    for grouping in old.groupings.iter().filter(|names| !names.is_empty() && !groupings.contains(&set(names)))
    {
        let names = grouping.join(", ");
        objections.push(Objection::WhileUsed(format!(
            "groupings: keep [{names}] (more may be added), or describe a new type under another name"
        )));
    }
    objections
}

fn keyed(old: &KeyedType, new: &KeyedType) -> Vec<Objection> {
    let mut objections = Vec::new();
    key("attributes", &old.attributes, &new.attributes, &mut objections);
    shard_key(&old.shard_key, &new.shard_key, &mut objections);
    objections
}

/// A thing is its key: with another one, everything there is would be something else.
fn key(field: &str, old: &[Attribute], new: &[Attribute], objections: &mut Vec<Objection>) {
    let parts = |attributes: &[Attribute]| -> BTreeSet<(String, String)> {
        attributes.iter().map(|attribute| (attribute.name.clone(), attribute.kind.to_string())).collect()
    };
    if parts(old) != parts(new) {
        objections.push(Objection::Always(format!(
            "{field}: the key of a type never changes; describe a new type under another name and let this one run out"
        )));
    }
}

/// What is written lies where the shard key has put it.
fn shard_key(old: &[String], new: &[String], objections: &mut Vec<Objection>) {
    if set(old) != set(new) {
        objections.push(Objection::Always(
            "shard_key: the shard key of a type never changes: what is written lies where it was put; describe a new \
             type under another name and let this one run out"
                .to_owned(),
        ));
    }
}

fn set(names: &[String]) -> BTreeSet<&String> {
    names.iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::super::Kind;
    use super::*;

    fn account() -> Json {
        json!({
            "name": "a", "description": "d",
            "key_attributes": [{"name": "k", "type": "int"}, {"name": "l", "type": "string"}],
            "attributes": [{"name": "x", "type": "int"}, {"name": "y", "type": "date"}],
            "groupings": [["x"], ["x", "y"]], "shard_key": ["k", "l"], "aggregate": "day",
        })
    }

    fn lock() -> Json {
        json!({"name": "a", "attributes": [{"name": "k", "type": "int"}, {"name": "l", "type": "int"}], "shard_key": ["k"]})
    }

    /// `-` free, `u` refused while used, `a` always.
    fn verdict(kind: Kind, old: Json, changes: &[(&str, Json)]) -> String {
        let mut new = old.clone();
        changes.iter().for_each(|(field, value)| new[*field] = value.clone());
        let read = |json| kind.definition(json).unwrap();
        let objections = objections(&read(old), Some(&read(new)));
        let letter = |objection: &Objection| match objection {
            Objection::Always(_) => 'a',
            Objection::WhileUsed(_) => 'u',
        };
        if objections.is_empty() { "-".to_owned() } else { objections.iter().map(letter).collect() }
    }

    #[test]
    fn truth_table_of_account_types() {
        let (k, l) = (json!({"name": "k", "type": "int"}), json!({"name": "l", "type": "string"}));
        let (x, y) = (json!({"name": "x", "type": "int"}), json!({"name": "y", "type": "date"}));
        let z = json!({"name": "z", "type": "bool"});
        let table = [
            ("nothing", vec![], "-"),
            ("description", vec![("description", json!("e"))], "-"),
            ("interval", vec![("aggregate", json!("hour"))], "-"),
            ("attribute more", vec![("attributes", json!([x, y, z]))], "-"),
            ("attributes in another order", vec![("attributes", json!([y, x]))], "-"),
            ("key in another order", vec![("key_attributes", json!([l, k]))], "-"),
            ("shard key in another order", vec![("shard_key", json!(["l", "k"]))], "-"),
            ("grouping more", vec![("groupings", json!([["x"], ["y"], ["x", "y"]]))], "-"),
            ("grouping in another order", vec![("groupings", json!([["y", "x"], ["x"]]))], "-"),
            ("grouping gone", vec![("groupings", json!([["x"]]))], "u"),
            ("all groupings gone", vec![("groupings", json!([]))], "uu"),
            (
                "attribute and its grouping gone",
                vec![("attributes", json!([x])), ("groupings", json!([["x"]]))],
                "uu",
            ),
            (
                "attribute of another type",
                vec![("attributes", json!([x, {"name": "y", "type": "string"}]))],
                "a",
            ),
            ("key attribute more", vec![("key_attributes", json!([k, l, z]))], "a"),
            ("key attribute gone", vec![("key_attributes", json!([k])), ("shard_key", json!(["k"]))], "aa"),
            (
                "key attribute of another type",
                vec![("key_attributes", json!([k, {"name": "l", "type": "int"}]))],
                "a",
            ),
            (
                "key attribute becomes auxiliary",
                vec![
                    ("key_attributes", json!([k])),
                    ("attributes", json!([x, y, l])),
                    ("shard_key", json!(["k"])),
                ],
                "aa",
            ),
            (
                "attribute becomes key",
                vec![
                    ("key_attributes", json!([k, l, x])),
                    ("attributes", json!([y])),
                    ("groupings", json!([])),
                ],
                "auuu",
            ),
            ("shard key smaller", vec![("shard_key", json!(["k"]))], "a"),
        ];
        for (what, changes, expected) in table {
            assert_eq!(verdict(Kind::Account, account(), &changes), expected, "{what}");
        }
    }

    #[test]
    fn truth_table_of_lock_and_state_types() {
        let (k, l) = (json!({"name": "k", "type": "int"}), json!({"name": "l", "type": "int"}));
        let table = [
            ("nothing", vec![], "-"),
            ("description", vec![("description", json!("e"))], "-"),
            ("order", vec![("attributes", json!([l, k]))], "-"),
            ("attribute more", vec![("attributes", json!([k, l, {"name": "m", "type": "int"}]))], "a"),
            ("attribute gone", vec![("attributes", json!([k]))], "a"),
            (
                "attribute of another type",
                vec![("attributes", json!([k, {"name": "l", "type": "uuid"}]))],
                "a",
            ),
            ("shard key", vec![("shard_key", json!(["k", "l"]))], "a"),
        ];
        for kind in [Kind::Lock, Kind::State] {
            for (what, changes, expected) in &table {
                assert_eq!(verdict(kind, lock(), changes), *expected, "{kind:?} {what}");
            }
        }
    }

    #[test]
    fn a_type_in_use_is_not_deleted() {
        let old = Kind::Account.definition(account()).unwrap();
        assert!(matches!(objections(&old, None).as_slice(), [Objection::WhileUsed(_)]));
    }
}
