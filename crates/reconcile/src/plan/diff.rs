//! Field-level diff of two object states.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value as Json;

use yaml::FieldPath;

/// A changed field. Added and removed list items have one side only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FieldChange {
    /// Path of the field, such as `events[0].debit`.
    pub field: String,
    /// The stored value; `None` if added.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub before: Option<Json>,
    /// The desired value; `None` if removed.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub after: Option<Json>,
}

/// Keeps an explicit null as `Some`; only an absent key is `None`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

impl FieldChange {
    /// A field with a changed value.
    pub fn new(field: impl Into<String>, before: impl Into<Json>, after: impl Into<Json>) -> Self {
        Self { field: field.into(), before: Some(before.into()), after: Some(after.into()) }
    }
}

/// All differences between `before` and `after`.
pub fn diff_fields(before: &Json, after: &Json) -> Vec<FieldChange> {
    let mut changes = Vec::new();
    compare_values(FieldPath::default(), Some(before), Some(after), &mut changes);
    changes
}

fn compare_values(
    field: FieldPath,
    before: Option<&Json>,
    after: Option<&Json>,
    changes: &mut Vec<FieldChange>,
) {
    match (before, after) {
        (before, after) if before == after => {}
        (Some(Json::Object(old)), Some(Json::Object(new))) => {
            for (key, value) in old {
                compare_values(
                    field.clone().with_key(key.clone()),
                    Some(value),
                    new.get(key),
                    changes,
                );
            }
            for (key, value) in new.iter().filter(|(key, _)| !old.contains_key(*key)) {
                compare_values(field.clone().with_key(key.clone()), None, Some(value), changes);
            }
        }
        (Some(Json::Array(old)), Some(Json::Array(new))) => compare_lists(field, old, new, changes),
        (before, after) => changes.push(change_of_field(&field, before, after)),
    }
}

/// Reports added and removed items. Lists of equal length are compared index by index,
/// unless an item moved.
fn compare_lists(field: FieldPath, old: &[Json], new: &[Json], changes: &mut Vec<FieldChange>) {
    let removed: Vec<&Json> = old.iter().filter(|item| !new.contains(item)).collect();
    let added: Vec<&Json> = new.iter().filter(|item| !old.contains(item)).collect();
    let changed_in_place = old.len() == new.len()
        && old
            .iter()
            .zip(new)
            .all(|(old, new)| old == new || (removed.contains(&old) && added.contains(&new)));
    if changed_in_place {
        for (index, (old, new)) in old.iter().zip(new).enumerate() {
            compare_values(field.clone().with_index(index), Some(old), Some(new), changes);
        }
    } else if removed.is_empty() && added.is_empty() {
        // Only the order or the number of repetitions differs.
        changes.push(FieldChange {
            field: field.to_string(),
            before: Some(old.into()),
            after: Some(new.into()),
        });
    } else {
        for item in removed {
            changes.push(change_of_field(&field, Some(item), None));
        }
        for item in added {
            changes.push(change_of_field(&field, None, Some(item)));
        }
    }
}

fn change_of_field(field: &FieldPath, before: Option<&Json>, after: Option<&Json>) -> FieldChange {
    FieldChange { field: field.to_string(), before: before.cloned(), after: after.cloned() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_that_differ_are_named_with_both_sides() {
        let cases = [
            (json!({"a": 1}), json!({"a": 1}), vec![]),
            (json!({"a": 1}), json!({"a": 2}), vec![("a", Some(json!(1)), Some(json!(2)))]),
            (
                json!({"a": 1}),
                json!({"b": 1}),
                vec![("a", Some(json!(1)), None), ("b", None, Some(json!(1)))],
            ),
            (json!({"l": [1, 2]}), json!({"l": [1, 2, 3]}), vec![("l", None, Some(json!(3)))]),
            (json!({"l": [1, 2]}), json!({"l": [2]}), vec![("l", Some(json!(1)), None)]),
            (
                json!({"l": [1, 2]}),
                json!({"l": [2, 1]}),
                vec![("l", Some(json!([1, 2])), Some(json!([2, 1])))],
            ),
            (
                json!({"l": [{"x": 1}, 7]}),
                json!({"l": [{"x": 2}, 7]}),
                vec![("l[0].x", Some(json!(1)), Some(json!(2)))],
            ),
        ];
        for (before, after, expected) in cases {
            let found = diff_fields(&before, &after);
            let found: Vec<_> = found.into_iter().map(|c| (c.field, c.before, c.after)).collect();
            let expected: Vec<_> =
                expected.into_iter().map(|(f, b, a)| (f.to_owned(), b, a)).collect();
            assert_eq!(found, expected, "{before} -> {after}");
        }
    }
}
