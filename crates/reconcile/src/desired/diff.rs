//! Structural diff of two desired states: each difference at its deepest path.
//!
//! List items are matched by content, independent of their index; the remaining items are paired by
//! `name` if they all have distinct names.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value as Json;
use yaml::FieldPath;

use super::{DiffDeadline, UnknownShardsReason};

/// A difference between two states, as a pair of paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DesiredDifference {
    /// Path in the old state; `None` if added.
    pub(super) old: Option<FieldPath>,
    /// Path in the new state; `None` if removed.
    pub(super) new: Option<FieldPath>,
}

impl DesiredDifference {
    /// Text such as `~ a.b` (changed), `+ a.b` (added) or `- a.b` (removed).
    pub(super) fn describe(&self) -> String {
        match (&self.old, &self.new) {
            (Some(old), None) => format!("- {}", describe_field(old)),
            (None, Some(new)) => format!("+ {}", describe_field(new)),
            (_, Some(new)) => format!("~ {}", describe_field(new)),
            (None, None) => String::new(),
        }
    }
}

fn describe_field(field: &FieldPath) -> String {
    match field.to_string() {
        field if field.is_empty() => "everything".to_owned(),
        field => field,
    }
}

/// All differences, or an error if the deadline expires.
pub(super) fn find_differences(
    old: &Json,
    new: &Json,
    deadline: DiffDeadline,
) -> Result<Vec<DesiredDifference>, UnknownShardsReason> {
    let mut diff = DesiredDiff { differences: Vec::new(), deadline };
    diff.compare((FieldPath::default(), old), (FieldPath::default(), new))?;
    Ok(diff.differences)
}

struct DesiredDiff {
    differences: Vec<DesiredDifference>,
    deadline: DiffDeadline,
}

type DesiredDiffSide<'j> = (FieldPath, &'j Json);

impl DesiredDiff {
    fn compare(
        &mut self,
        old: DesiredDiffSide<'_>,
        new: DesiredDiffSide<'_>,
    ) -> Result<(), UnknownShardsReason> {
        self.deadline.check()?;
        match (old.1, new.1) {
            (before, after) if before == after => {}
            (Json::Object(before), Json::Object(after)) => {
                for (key, value) in before {
                    let here = old.0.clone().with_key(key);
                    match after.get(key) {
                        Some(other) => {
                            self.compare((here, value), (new.0.clone().with_key(key), other))?
                        }
                        None => self.add_removed(here),
                    }
                }
                for key in after.keys().filter(|key| !before.contains_key(*key)) {
                    self.add_added(new.0.clone().with_key(key));
                }
            }
            (Json::Array(before), Json::Array(after)) => {
                self.compare_lists((old.0, before), (new.0, after))?
            }
            _ => self.add_changed(old.0, new.0),
        }
        Ok(())
    }

    fn compare_lists(
        &mut self,
        old: (FieldPath, &[Json]),
        new: (FieldPath, &[Json]),
    ) -> Result<(), UnknownShardsReason> {
        let (gone, came, moved) = match_items(old.1, new.1, self.deadline)?;
        if moved {
            // The order may be significant for every item of the list.
            self.add_changed(old.0.clone(), new.0.clone());
        }
        let named = index_by_name(old.1, &gone).zip(index_by_name(new.1, &came));
        let Some((old_names, mut new_names)) = named else {
            gone.into_iter().for_each(|index| self.add_removed(old.0.clone().with_index(index)));
            came.into_iter().for_each(|index| self.add_added(new.0.clone().with_index(index)));
            return Ok(());
        };
        for (name, before) in old_names {
            let here = old.0.clone().with_index(before);
            match new_names.remove(name) {
                Some(after) => {
                    let there = new.0.clone().with_index(after);
                    self.compare((here, &old.1[before]), (there, &new.1[after]))?;
                }
                None => self.add_removed(here),
            }
        }
        new_names.into_values().for_each(|index| self.add_added(new.0.clone().with_index(index)));
        Ok(())
    }

    fn add_removed(&mut self, old: FieldPath) {
        self.differences.push(DesiredDifference { old: Some(old), new: None });
    }

    fn add_added(&mut self, new: FieldPath) {
        self.differences.push(DesiredDifference { old: None, new: Some(new) });
    }

    fn add_changed(&mut self, old: FieldPath, new: FieldPath) {
        self.differences.push(DesiredDifference { old: Some(old), new: Some(new) });
    }
}

/// Matches list items by content. Returns the indices of unmatched old items, those of unmatched
/// new items, and whether matched items are in a different order.
fn match_items(
    old: &[Json],
    new: &[Json],
    deadline: DiffDeadline,
) -> Result<(Vec<usize>, Vec<usize>, bool), UnknownShardsReason> {
    let mut indices: HashMap<String, Vec<usize>> = HashMap::new();
    for (index, item) in new.iter().enumerate().rev() {
        deadline.check()?;
        indices.entry(canonical_json(item)).or_default().push(index);
    }
    let (mut gone, mut matched) = (Vec::new(), Vec::new());
    for (index, item) in old.iter().enumerate() {
        deadline.check()?;
        match indices.get_mut(&canonical_json(item)).and_then(Vec::pop) {
            Some(other) => matched.push(other),
            None => gone.push(index),
        }
    }
    let is_reordered = !matched.is_sorted();
    let mut came: Vec<usize> = indices.into_values().flatten().collect();
    came.sort_unstable();
    Ok((gone, came, is_reordered))
}

fn canonical_json(item: &Json) -> String {
    let mut item = item.clone();
    item.sort_all_objects();
    item.to_string()
}

/// Indices by item name; `None` if an item has no name or a name repeats.
fn index_by_name<'j>(items: &'j [Json], indices: &[usize]) -> Option<BTreeMap<&'j str, usize>> {
    let mut names = BTreeMap::new();
    for index in indices {
        let name = items[*index].get("name")?.as_str()?;
        if names.insert(name, *index).is_some() {
            return None;
        }
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn describe_differences(old: &Json, new: &Json) -> Vec<String> {
        let deadline = DiffDeadline::after(Duration::from_secs(60));
        find_differences(old, new, deadline)
            .unwrap()
            .iter()
            .map(DesiredDifference::describe)
            .collect()
    }

    #[test]
    fn every_difference_is_found_as_deep_as_it_is() {
        let table = [
            (json!({"a": {"b": 1}}), json!({"a": {"b": 1}}), vec![]),
            (json!({"a": {"b": 1}}), json!({"a": {"b": 2}}), vec!["~ a.b"]),
            (json!({"a": 1}), json!({"b": 1}), vec!["- a", "+ b"]),
            (json!([1, 2]), json!([1, 2, 3]), vec!["+ [2]"]),
            (json!([1, 2, 3]), json!([2, 3]), vec!["- [0]"]),
            (json!([1, 2]), json!([2, 1]), vec!["~ everything"]),
            (json!([1, 1]), json!([1]), vec!["- [1]"]),
            (json!({"l": [{"x": 1}]}), json!({"l": [{"x": 2}]}), vec!["- l[0]", "+ l[0]"]),
            // Items with a name are paired at any index.
            (
                json!([{"name": "a", "x": 1}, {"name": "b", "x": 1}]),
                json!([{"name": "new"}, {"name": "a", "x": 1}, {"name": "b", "x": 2}]),
                vec!["~ [2].x", "+ [0]"],
            ),
            (json!(1), json!({"a": 1}), vec!["~ everything"]),
        ];
        for (old, new, expected) in table {
            assert_eq!(describe_differences(&old, &new), expected, "{old} -> {new}");
        }
    }

    #[test]
    fn a_deadline_that_is_over_is_said() {
        let deadline = DiffDeadline::after(Duration::ZERO);
        assert!(
            find_differences(&json!(1), &json!(2), deadline)
                .unwrap_err()
                .contains("longer than 0ns")
        );
    }
}
