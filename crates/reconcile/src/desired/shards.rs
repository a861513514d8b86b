//! Assignment of differences between desired states to shards.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;
use yaml::FieldPath;

use super::diff::{DesiredDifference, find_differences};
use super::selector::{FieldPathIndex, ShardPart, ShardSelector};
use super::{DiffDeadline, UnknownShardsReason};
use crate::fingerprint::{self, Fingerprint};

/// Maximum number of differences reported per shard.
const MAX_DIFFERENCES_PER_SHARD: usize = 20;

/// Affected and unaffected shards of a diff.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct AffectedShards {
    /// Affected shards with their differences.
    pub(crate) shards: BTreeMap<String, Vec<String>>,
    /// Shards without differences.
    pub(crate) unaffected: BTreeMap<String, UnaffectedShard>,
}

/// Fingerprints of an unaffected shard's part in both states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnaffectedShard {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) compared_fingerprint: Fingerprint,
}

/// A state with the parts of its shards.
struct ShardedDesiredState<'j> {
    state: &'j Json,
    parts: Vec<ShardPart>,
    by_root: BTreeMap<FieldPath, Vec<usize>>,
}

pub(super) fn find_affected_shards(
    old: &Json,
    new: &Json,
    selectors: &[String],
    deadline: DiffDeadline,
) -> Result<AffectedShards, UnknownShardsReason> {
    let selectors =
        selectors.iter().map(|text| ShardSelector::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let differences = find_differences(old, new, deadline)?;
    let (old, new) =
        (ShardedDesiredState::build(old, deadline)?, ShardedDesiredState::build(new, deadline)?);
    let (old, new) = assign_parts(old, new, &selectors)?;
    let mut affected = AffectedShards::default();
    for difference in &differences {
        deadline.check()?;
        let mut shards = BTreeSet::new();
        for (state, field) in [(&old, &difference.old), (&new, &difference.new)] {
            shards.extend(field.iter().flat_map(|field| state.shards_touching(field)));
        }
        if shards.is_empty() {
            return Err(format!("the difference `{}` belongs to no shard", difference.describe()));
        }
        shards.into_iter().for_each(|shard| affected.add_difference(shard, difference));
    }
    affected.unaffected = find_unaffected_shards(&old, &new, &affected, deadline)?;
    Ok(affected)
}

/// Names of the shards that the selectors find in a state.
pub(super) fn find_shard_names(
    state: &Json,
    selectors: &[String],
    deadline: DiffDeadline,
) -> Result<BTreeSet<String>, UnknownShardsReason> {
    let index = FieldPathIndex::build(state, deadline)?;
    let mut names = BTreeSet::new();
    for selector in selectors {
        deadline.check()?;
        let parts = ShardSelector::parse(selector)?.find_parts(state, &index)?;
        names.extend(parts.into_iter().map(|part| part.shard));
    }
    Ok(names)
}

/// Finds the parts of all selectors. A selector that matches nothing in either state is an error,
/// because it is probably wrong.
fn assign_parts<'j>(
    (mut old, old_index): (ShardedDesiredState<'j>, FieldPathIndex),
    (mut new, new_index): (ShardedDesiredState<'j>, FieldPathIndex),
    selectors: &[ShardSelector<'_>],
) -> Result<(ShardedDesiredState<'j>, ShardedDesiredState<'j>), UnknownShardsReason> {
    for selector in selectors {
        let before = selector.find_parts(old.state, &old_index)?;
        let after = selector.find_parts(new.state, &new_index)?;
        if before.is_empty() && after.is_empty() {
            return Err(format!("the selector {} matches nothing", selector.text()));
        }
        old.add_parts(before);
        new.add_parts(after);
    }
    Ok((old, new))
}

impl AffectedShards {
    fn add_difference(&mut self, shard: &str, difference: &DesiredDifference) {
        let differences = self.shards.entry(shard.to_owned()).or_default();
        if differences.len() < MAX_DIFFERENCES_PER_SHARD {
            differences.push(difference.describe());
        }
    }
}

impl<'j> ShardedDesiredState<'j> {
    fn build(
        state: &'j Json,
        deadline: DiffDeadline,
    ) -> Result<(Self, FieldPathIndex), UnknownShardsReason> {
        let empty = Self { state, parts: Vec::new(), by_root: BTreeMap::new() };
        Ok((empty, FieldPathIndex::build(state, deadline)?))
    }

    fn add_parts(&mut self, parts: Vec<ShardPart>) {
        for part in parts {
            self.by_root.entry(part.root.clone()).or_default().push(self.parts.len());
            self.parts.push(part);
        }
    }

    /// Shards whose parts contain the field or are contained in it.
    fn shards_touching(&self, field: &FieldPath) -> impl Iterator<Item = &str> {
        let around = (0..field.steps().len())
            .filter_map(|steps| self.by_root.get(&field.first_steps(steps)));
        let within =
            self.by_root.range(field.clone()..).take_while(|(root, _)| root.is_within(field));
        let parts = around.chain(within.map(|(_, parts)| parts)).flatten();
        parts.map(|part| self.parts[*part].shard.as_str())
    }

    /// Fingerprint of each shard over all of its parts.
    fn shard_fingerprints(
        &self,
        deadline: DiffDeadline,
    ) -> Result<BTreeMap<&str, Fingerprint>, UnknownShardsReason> {
        let mut fingerprints: BTreeMap<&str, Vec<Fingerprint>> = BTreeMap::new();
        for part in &self.parts {
            deadline.check()?;
            let value = part.root.find_in(self.state).unwrap_or(&Json::Null);
            fingerprints.entry(&part.shard).or_default().push(fingerprint::hash_json(value));
        }
        let mut combined = BTreeMap::new();
        for (shard, mut digests) in fingerprints {
            digests.sort_unstable();
            let digests = digests.iter().map(|digest| ("", digest));
            combined.insert(shard, fingerprint::hash_named(digests));
        }
        Ok(combined)
    }
}

/// Shards without differences. The fingerprints verify independently of the diff that their parts
/// are equal, because these shards are skipped.
fn find_unaffected_shards(
    old: &ShardedDesiredState<'_>,
    new: &ShardedDesiredState<'_>,
    affected: &AffectedShards,
    deadline: DiffDeadline,
) -> Result<BTreeMap<String, UnaffectedShard>, UnknownShardsReason> {
    let (old, new) = (old.shard_fingerprints(deadline)?, new.shard_fingerprints(deadline)?);
    let mut untouched = BTreeMap::new();
    for shard in old.keys().chain(new.keys()).filter(|shard| !affected.shards.contains_key(**shard))
    {
        match (old.get(shard), new.get(shard)) {
            (Some(compared), Some(digest)) if compared == digest => {
                let evidence =
                    UnaffectedShard { fingerprint: *digest, compared_fingerprint: *compared };
                untouched.insert((*shard).to_owned(), evidence);
            }
            _ => return Err(format!("the shard {shard} differs, and no difference belongs to it")),
        }
    }
    Ok(untouched)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    /// `AFFECTED|UNAFFECTED` shard names, or the error.
    fn describe_affected(old: &Json, new: &Json, selectors: &[&str]) -> String {
        let selectors: Vec<String> = selectors.iter().map(|text| (*text).to_owned()).collect();
        match find_affected_shards(
            old,
            new,
            &selectors,
            DiffDeadline::after(Duration::from_secs(60)),
        ) {
            Ok(affected) => {
                let names =
                    |names: Vec<&String>| names.into_iter().cloned().collect::<Vec<_>>().join(" ");
                let (touched, others) =
                    (affected.shards.keys().collect(), affected.unaffected.keys().collect());
                format!("{}|{}", names(touched), names(others))
            }
            Err(reason) => reason,
        }
    }

    #[test]
    fn truth_table() {
        let state = json!({"t": {
            "a": {"name": "a", "x": {"y": 1}}, "b": {"name": "b", "x": 1}, "c": {"name": "c", "author": "b"}}});
        let with = |pointer: &str, value: Json| {
            let mut state = state.clone();
            *state.pointer_mut(pointer).unwrap() = value;
            state
        };
        let by_name = ["$.t.*.name"];
        let mut more = state.clone();
        more["t"]["d"] = json!({"name": "d"});
        let mut less = state.clone();
        less["t"].as_object_mut().unwrap().remove("a");
        let mut beside = state.clone();
        beside["u"] = json!(1);
        let table = [
            ("deep in one", with("/t/a/x/y", json!(2)), &by_name[..], "a|b c"),
            ("one whole", with("/t/b", json!({"name": "b"})), &by_name, "b|a c"),
            ("renamed", with("/t/b/name", json!("z")), &by_name, "b z|a c"),
            ("one more", more, &by_name, "d|a b c"),
            ("one less", less, &by_name, "a|b c"),
            ("all", json!({}), &by_name, "a b c|"),
            ("outside of all", beside, &by_name, "the difference `+ u` belongs to no shard"),
            (
                "no selector fits",
                with("/t/b/x", json!(2)),
                &["$.t.*.nobody"],
                "the selector $.t.*.nobody matches nothing",
            ),
            (
                "one of two selectors fits nothing",
                with("/t/b/x", json!(2)),
                &["$.t.*.name", "$.u.*.name"],
                "the selector $.u.*.name matches nothing",
            ),
            (
                "what no selector sees",
                with("/t/b/x", json!(2)),
                &["$.t.*.author"],
                "the difference `~ t.b.x` belongs to no shard",
            ),
            (
                "a shard of several parts",
                with("/t/c/name", json!("q")),
                &["$.t.*.name", "$.t.*.author"],
                "b c q|a",
            ),
            ("one shard", with("/t/a/x/y", json!(2)), &["$.t.a.name"], "a|"),
        ];
        for (what, new, selectors, expected) in table {
            assert_eq!(describe_affected(&state, &new, selectors), expected, "{what}");
        }
    }

    #[test]
    fn items_of_lists_keep_their_shards_wherever_they_stand() {
        let item = |name: &str, x: u8| json!({"name": name, "x": x});
        let old = json!([item("a", 1), item("b", 1), item("c", 1)]);
        let selectors = ["$[*].name"];
        assert_eq!(
            describe_affected(&old, &json!([item("b", 1), item("c", 1)]), &selectors),
            "a|b c"
        );
        assert_eq!(
            describe_affected(
                &old,
                &json!([item("z", 1), item("a", 1), item("b", 2), item("c", 1)]),
                &selectors
            ),
            "b z|a c"
        );
        assert_eq!(
            describe_affected(&old, &json!([item("b", 1), item("a", 1), item("c", 1)]), &selectors),
            "a b c|"
        );
    }
}
