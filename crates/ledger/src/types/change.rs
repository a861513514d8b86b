//! Safety rules for changing a type definition: a pure function of the old and new definitions.

use std::collections::BTreeSet;

use super::{AccountType, KeyedType, LedgerAttribute, LedgerTypeDefinition};

/// Reason for refusing a change of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerTypeObjection {
    /// Refused even if nothing uses the type.
    Always(String),
    /// Refused while anything uses the type.
    WhileUsed(String),
}

/// Objections against changing `old` into `new`; `new = None` means deletion.
pub fn find_objections(
    old: &LedgerTypeDefinition,
    new: Option<&LedgerTypeDefinition>,
) -> Vec<LedgerTypeObjection> {
    match (old, new) {
        (LedgerTypeDefinition::Account(old), Some(LedgerTypeDefinition::Account(new))) => {
            find_account_objections(old, new)
        }
        (LedgerTypeDefinition::Lock(old), Some(LedgerTypeDefinition::Lock(new)))
        | (LedgerTypeDefinition::State(old), Some(LedgerTypeDefinition::State(new))) => {
            find_keyed_objections(old, new)
        }
        // Names are unique within a kind, so a different kind means that `old` is deleted.
        _ => vec![LedgerTypeObjection::WhileUsed(
            "leave its file in the bundle until nothing of it is left and no rule refers to it"
                .to_owned(),
        )],
    }
}

fn find_account_objections(old: &AccountType, new: &AccountType) -> Vec<LedgerTypeObjection> {
    let mut objections = Vec::new();
    check_key_change("key_attributes", &old.key_attributes, &new.key_attributes, &mut objections);
    check_shard_key_change(&old.shard_key, &new.shard_key, &mut objections);
    for attribute in &old.attributes {
        let name = &attribute.name;
        match new.attributes.iter().find(|new| new.name == *name) {
            Some(new) if new.kind != attribute.kind => objections.push(LedgerTypeObjection::Always(format!(
                "attributes: `{name}` is of type {} for ever; add an attribute with another name",
                attribute.kind
            ))),
            Some(_) => {}
            None => objections.push(LedgerTypeObjection::WhileUsed(format!(
                "attributes: keep `{name}` (events may leave it out), or describe a new type under another name"
            ))),
        }
    }
    let groupings: BTreeSet<BTreeSet<&String>> =
        new.groupings.iter().map(|names| to_name_set(names)).collect();
    for grouping in old
        .groupings
        .iter()
        .filter(|names| !names.is_empty() && !groupings.contains(&to_name_set(names)))
    {
        let names = grouping.join(", ");
        objections.push(LedgerTypeObjection::WhileUsed(format!(
            "groupings: keep [{names}] (more may be added), or describe a new type under another name"
        )));
    }
    objections
}

fn find_keyed_objections(old: &KeyedType, new: &KeyedType) -> Vec<LedgerTypeObjection> {
    let mut objections = Vec::new();
    check_key_change("attributes", &old.attributes, &new.attributes, &mut objections);
    check_shard_key_change(&old.shard_key, &new.shard_key, &mut objections);
    objections
}

/// The key attributes identify an object: changing them would change the identity of stored rows.
fn check_key_change(
    field: &str,
    old: &[LedgerAttribute],
    new: &[LedgerAttribute],
    objections: &mut Vec<LedgerTypeObjection>,
) {
    if collect_key_parts(old) != collect_key_parts(new) {
        objections.push(LedgerTypeObjection::Always(format!(
            "{field}: the key of a type never changes; describe a new type under another name and let this one run out"
        )));
    }
}

/// Names and value types of the attributes.
fn collect_key_parts(attributes: &[LedgerAttribute]) -> BTreeSet<(String, String)> {
    attributes
        .iter()
        .map(|attribute| (attribute.name.clone(), attribute.kind.to_string()))
        .collect()
}

/// Stored rows stay on the shard that the old shard key selected.
fn check_shard_key_change(
    old: &[String],
    new: &[String],
    objections: &mut Vec<LedgerTypeObjection>,
) {
    if to_name_set(old) != to_name_set(new) {
        objections.push(LedgerTypeObjection::Always(
            "shard_key: the shard key of a type never changes: what is written lies where it was put; describe a new \
             type under another name and let this one run out"
                .to_owned(),
        ));
    }
}

fn to_name_set(names: &[String]) -> BTreeSet<&String> {
    names.iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::super::LedgerTypeKind;
    use super::*;

    fn account_json() -> Json {
        json!({
            "name": "a", "description": "d",
            "key_attributes": [{"name": "k", "type": "int"}, {"name": "l", "type": "string"}],
            "attributes": [{"name": "x", "type": "int"}, {"name": "y", "type": "date"}],
            "groupings": [["x"], ["x", "y"]], "shard_key": ["k", "l"], "aggregate": "day",
        })
    }

    fn lock_json() -> Json {
        json!({"name": "a", "attributes": [{"name": "k", "type": "int"}, {"name": "l", "type": "int"}], "shard_key": ["k"]})
    }

    /// One letter per objection: `a` = `Always`, `u` = `WhileUsed`; `-` = no objection.
    fn objection_letters(kind: LedgerTypeKind, old: Json, changes: &[(&str, Json)]) -> String {
        let mut new = old.clone();
        changes.iter().for_each(|(field, value)| new[*field] = value.clone());
        let read = |json| kind.parse_definition(json).unwrap();
        let objections = find_objections(&read(old), Some(&read(new)));
        let letter = |objection: &LedgerTypeObjection| match objection {
            LedgerTypeObjection::Always(_) => 'a',
            LedgerTypeObjection::WhileUsed(_) => 'u',
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
            (
                "key attribute gone",
                vec![("key_attributes", json!([k])), ("shard_key", json!(["k"]))],
                "aa",
            ),
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
            assert_eq!(
                objection_letters(LedgerTypeKind::Account, account_json(), &changes),
                expected,
                "{what}"
            );
        }
    }

    #[test]
    fn truth_table_of_lock_and_state_types() {
        let (k, l) = (json!({"name": "k", "type": "int"}), json!({"name": "l", "type": "int"}));
        let table = [
            ("nothing", vec![], "-"),
            ("description", vec![("description", json!("e"))], "-"),
            ("order", vec![("attributes", json!([l, k]))], "-"),
            (
                "attribute more",
                vec![("attributes", json!([k, l, {"name": "m", "type": "int"}]))],
                "a",
            ),
            ("attribute gone", vec![("attributes", json!([k]))], "a"),
            (
                "attribute of another type",
                vec![("attributes", json!([k, {"name": "l", "type": "uuid"}]))],
                "a",
            ),
            ("shard key", vec![("shard_key", json!(["k", "l"]))], "a"),
        ];
        for kind in [LedgerTypeKind::Lock, LedgerTypeKind::State] {
            for (what, changes, expected) in &table {
                assert_eq!(
                    objection_letters(kind, lock_json(), changes),
                    *expected,
                    "{kind:?} {what}"
                );
            }
        }
    }

    #[test]
    fn a_type_in_use_is_not_deleted() {
        let old = LedgerTypeKind::Account.parse_definition(account_json()).unwrap();
        assert!(matches!(
            find_objections(&old, None).as_slice(),
            [LedgerTypeObjection::WhileUsed(_)]
        ));
    }
}
