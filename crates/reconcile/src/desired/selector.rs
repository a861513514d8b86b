//! Shard selectors: JSONPath expressions for shard names within a desired state.

use std::collections::HashMap;

use jsonpath_rust::parser::model::{JpQuery, Segment, Selector as Step};
use jsonpath_rust::parser::parse_json_path;
use jsonpath_rust::query::js_path_process;
use serde_json::Value as Json;
use yaml::FieldPath;

use super::{DiffDeadline, UnknownShardsReason};

/// Maximum selector length in bytes. With the maximum bracket nesting below, it bounds the
/// recursion of the JSONPath parser.
const MAX_SELECTOR_BYTES: usize = 256;
const MAX_SELECTOR_DEPTH: usize = 8;

/// Paths of all values of a state by address: query results are references into the state.
pub(super) struct FieldPathIndex(HashMap<*const Json, FieldPath>);

/// A shard name and the root of its part of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ShardPart {
    pub(super) shard: String,
    pub(super) root: FieldPath,
}

/// A parsed selector.
pub(super) struct ShardSelector<'s> {
    text: &'s str,
    query: JpQuery,
    /// Number of path components of a part's root; `None`: the parent of the name's value.
    part_depth: Option<usize>,
}

impl<'s> ShardSelector<'s> {
    pub(super) fn parse(text: &'s str) -> Result<Self, UnknownShardsReason> {
        if text.len() > MAX_SELECTOR_BYTES || bracket_depth(text) > MAX_SELECTOR_DEPTH {
            return Err(format!(
                "the selector {text} has more than {MAX_SELECTOR_BYTES} bytes or {MAX_SELECTOR_DEPTH} brackets in one \
                 another"
            ));
        }
        let query =
            parse_json_path(text).map_err(|_| format!("the selector {text} is no JSONPath"))?;
        let depth = part_depth(&query);
        Ok(Self { text, query, part_depth: depth })
    }

    /// Shard parts that the selector finds in a state.
    pub(super) fn find_parts(
        &self,
        state: &Json,
        index: &FieldPathIndex,
    ) -> Result<Vec<ShardPart>, UnknownShardsReason> {
        let found = js_path_process(&self.query, state)
            .map_err(|_| format!("the selector {} cannot be followed", self.text))?;
        let mut parts = Vec::with_capacity(found.len());
        for found in found {
            let name: &Json = found.val;
            let place = index
                .0
                .get(&std::ptr::from_ref(name))
                .ok_or_else(|| format!("the selector {} left the state", self.text))?;
            parts.push(self.build_part(name, place)?);
        }
        Ok(parts)
    }

    /// The part whose shard name `name` is at `place`.
    fn build_part(&self, name: &Json, place: &FieldPath) -> Result<ShardPart, UnknownShardsReason> {
        let shard = match name {
            Json::String(name) => name.clone(),
            Json::Number(number) => number.to_string(),
            _ => {
                return Err(format!(
                    "the selector {} finds what is no name, at {place}",
                    self.text
                ));
            }
        };
        let depth = self.part_depth.unwrap_or(place.steps().len().saturating_sub(1));
        Ok(ShardPart { shard, root: place.first_steps(depth) })
    }

    pub(super) fn text(&self) -> &str {
        self.text
    }
}

/// A part's root ends with the last segment that can match several values; fixed keys after it lie
/// within the part. Without such a segment, or with `..`, the extent of a part is unknown, and the
/// smallest is assumed: the name's parent.
fn part_depth(query: &JpQuery) -> Option<usize> {
    if query.segments.iter().any(|segment| matches!(segment, Segment::Descendant(_))) {
        return None;
    }
    query.segments.iter().rposition(|segment| !is_fixed_key(segment)).map(|last| last + 1)
}

fn is_fixed_key(segment: &Segment) -> bool {
    matches!(segment, Segment::Selector(Step::Name(_)))
}

fn bracket_depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for c in text.chars() {
        match c {
            '[' | '(' => depth += 1,
            ']' | ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

impl FieldPathIndex {
    pub(super) fn build(state: &Json, deadline: DiffDeadline) -> Result<Self, UnknownShardsReason> {
        let mut index = Self(HashMap::new());
        index.add_value(FieldPath::default(), state, deadline)?;
        Ok(index)
    }

    fn add_value(
        &mut self,
        field: FieldPath,
        value: &Json,
        deadline: DiffDeadline,
    ) -> Result<(), UnknownShardsReason> {
        deadline.check()?;
        match value {
            Json::Object(entries) => {
                for (key, value) in entries {
                    self.add_value(field.clone().with_key(key), value, deadline)?;
                }
            }
            Json::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.add_value(field.clone().with_index(index), item, deadline)?;
                }
            }
            _ => {}
        }
        self.0.insert(std::ptr::from_ref(value), field);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn find_part_names(
        selector: &str,
        state: &Json,
    ) -> Result<Vec<(String, String)>, UnknownShardsReason> {
        let places = FieldPathIndex::build(state, DiffDeadline::after(Duration::from_secs(60)))?;
        let parts = ShardSelector::parse(selector)?.find_parts(state, &places)?;
        Ok(parts.into_iter().map(|part| (part.shard, part.root.to_string())).collect())
    }

    #[test]
    fn a_part_is_what_the_last_choice_chose() {
        let state =
            json!({"k": {"a'b": {"about": {"name": "x"}}}, "l": [{"name": 7}], "env": "test"});
        let table = [
            ("$.k.*.about.name", vec![("x", "k[\"a'b\"]")]),
            ("$.l[*].name", vec![("7", "l[0]")]),
            ("$.env", vec![("test", "")]),
            ("$..about.name", vec![("x", "k[\"a'b\"].about")]),
            ("$.nothing.*", vec![]),
        ];
        for (selector, expected) in table {
            let expected: Vec<_> =
                expected.into_iter().map(|(n, r)| (n.to_owned(), r.to_owned())).collect();
            assert_eq!(find_part_names(selector, &state).unwrap(), expected, "{selector}");
        }
    }

    #[test]
    fn what_is_no_selector_is_said() {
        let deep = format!("${}{}", "[?(@.a".repeat(5000), ")]".repeat(5000));
        let nested = format!("$[?{}@.a{}]", "(".repeat(60), ")".repeat(60));
        for bad in ["", "name", "$[", &deep, &nested] {
            assert!(ShardSelector::parse(bad).is_err(), "{bad:.20}");
        }
        assert!(find_part_names("$.k", &json!({"k": {}})).unwrap_err().contains("no name, at k"));
    }
}
