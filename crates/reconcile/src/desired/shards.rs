//! Which shards differ between two desired states.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use super::diff::{Difference, differences};
use super::selector::{Part, Places, Selector};
use super::{Deadline, Doubt};
use crate::digest::{self, Digest};
use crate::{Field, Step};

/// Most differences that are told of a shard.
const MOST_TOLD: usize = 20;

/// What differs, by shard.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Affected {
    /// The shards that differ, and in what.
    pub(crate) shards: BTreeMap<String, Vec<String>>,
    /// All others.
    pub(crate) untouched: BTreeMap<String, Untouched>,
}

/// A shard that does not differ: the fingerprint of its part in both states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Untouched {
    pub(crate) digest: Digest,
    pub(crate) compared: Digest,
}

/// One state's shards.
struct State<'j> {
    state: &'j Json,
    parts: Vec<Part>,
    by_root: BTreeMap<Field, Vec<usize>>,
}

pub(super) fn affected(
    old: &Json,
    new: &Json,
    selectors: &[String],
    deadline: Deadline,
) -> Result<Affected, Doubt> {
    let selectors = selectors.iter().map(|text| Selector::read(text)).collect::<Result<Vec<_>, _>>()?;
    let differences = differences(old, new, deadline)?;
    let (old, new) = (State::of(old, deadline)?, State::of(new, deadline)?);
    let (old, new) = select(old, new, &selectors)?;
    let mut affected = Affected::default();
    for difference in &differences {
        deadline.check()?;
        let mut shards = BTreeSet::new();
        for (state, field) in [(&old, &difference.old), (&new, &difference.new)] {
            shards.extend(field.iter().flat_map(|field| state.touched(field)));
        }
        if shards.is_empty() {
            return Err(format!("the difference `{}` belongs to no shard", difference.shown()));
        }
        shards.into_iter().for_each(|shard| affected.add(shard, difference));
    }
    affected.untouched = untouched(&old, &new, &affected, deadline)?;
    Ok(affected)
}

/// The shards that a state has.
pub(super) fn names(
    state: &Json,
    selectors: &[String],
    deadline: Deadline,
) -> Result<BTreeSet<String>, Doubt> {
    let places = Places::of(state, deadline)?;
    let mut names = BTreeSet::new();
    for selector in selectors {
        deadline.check()?;
        let parts = Selector::read(selector)?.parts(state, &places)?;
        names.extend(parts.into_iter().map(|part| part.shard));
    }
    Ok(names)
}

/// A selector that finds nothing in either state says nothing about the shards.
fn select<'j>(
    (mut old, old_places): (State<'j>, Places),
    (mut new, new_places): (State<'j>, Places),
    selectors: &[Selector<'_>],
) -> Result<(State<'j>, State<'j>), Doubt> {
    for selector in selectors {
        let before = selector.parts(old.state, &old_places)?;
        let after = selector.parts(new.state, &new_places)?;
        if before.is_empty() && after.is_empty() {
            return Err(format!("the selector {} matches nothing", selector.text()));
        }
        old.add(before);
        new.add(after);
    }
    Ok((old, new))
}

impl Affected {
    fn add(&mut self, shard: &str, difference: &Difference) {
        let told = self.shards.entry(shard.to_owned()).or_default();
        if told.len() < MOST_TOLD {
            told.push(difference.shown());
        }
    }
}

impl<'j> State<'j> {
    fn of(state: &'j Json, deadline: Deadline) -> Result<(Self, Places), Doubt> {
        let empty = Self { state, parts: Vec::new(), by_root: BTreeMap::new() };
        Ok((empty, Places::of(state, deadline)?))
    }

    fn add(&mut self, parts: Vec<Part>) {
        for part in parts {
            self.by_root.entry(part.root.clone()).or_default().push(self.parts.len());
            self.parts.push(part);
        }
    }

    /// The shards whose parts the field lies in, or that lie in it.
    fn touched(&self, field: &Field) -> impl Iterator<Item = &str> {
        let around = (0..field.steps().len()).filter_map(|steps| self.by_root.get(&field.first(steps)));
        let within = self.by_root.range(field.clone()..).take_while(|(root, _)| root.is_within(field));
        let parts = around.chain(within.map(|(_, parts)| parts)).flatten();
        parts.map(|part| self.parts[*part].shard.as_str())
    }

    /// The fingerprint of what is a shard's, by shard.
    fn digests(&self, deadline: Deadline) -> Result<BTreeMap<&str, Digest>, Doubt> {
        let mut digests: BTreeMap<&str, Vec<Digest>> = BTreeMap::new();
        for part in &self.parts {
            deadline.check()?;
            let value = at(self.state, &part.root).unwrap_or(&Json::Null);
            digests.entry(&part.shard).or_default().push(digest::of_json(value));
        }
        let whole = |(shard, mut digests): (_, Vec<Digest>)| {
            digests.sort_unstable();
            (shard, digest::of_all(digests.iter().map(|digest| ("", digest))))
        };
        Ok(digests.into_iter().map(whole).collect())
    }
}

/// The shards that are not affected. That their parts are the same is looked at once more: it is what they are skipped for.
fn untouched(
    old: &State<'_>,
    new: &State<'_>,
    affected: &Affected,
    deadline: Deadline,
) -> Result<BTreeMap<String, Untouched>, Doubt> {
    let (old, new) = (old.digests(deadline)?, new.digests(deadline)?);
    let mut untouched = BTreeMap::new();
    for shard in old.keys().chain(new.keys()).filter(|shard| !affected.shards.contains_key(**shard)) {
        match (old.get(shard), new.get(shard)) {
            (Some(compared), Some(digest)) if compared == digest => {
                let evidence = Untouched { digest: *digest, compared: *compared };
                untouched.insert((*shard).to_owned(), evidence);
            }
            _ => return Err(format!("the shard {shard} differs, and no difference belongs to it")),
        }
    }
    Ok(untouched)
}

fn at<'j>(state: &'j Json, field: &Field) -> Option<&'j Json> {
    field.steps().iter().try_fold(state, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::Index(index) => value.get(index),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    /// The affected shards, `|`, the others; or the doubt.
    fn told(old: &Json, new: &Json, selectors: &[&str]) -> String {
        let selectors: Vec<String> = selectors.iter().map(|text| (*text).to_owned()).collect();
        match affected(old, new, &selectors, Deadline::after(Duration::from_secs(60))) {
            Ok(affected) => {
                let names = |names: Vec<&String>| names.into_iter().cloned().collect::<Vec<_>>().join(" ");
                let (touched, others) =
                    (affected.shards.keys().collect(), affected.untouched.keys().collect());
                format!("{}|{}", names(touched), names(others))
            }
            Err(doubt) => doubt,
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
            assert_eq!(told(&state, &new, selectors), expected, "{what}");
        }
    }

    #[test]
    fn items_of_lists_keep_their_shards_wherever_they_stand() {
        let item = |name: &str, x: u8| json!({"name": name, "x": x});
        let old = json!([item("a", 1), item("b", 1), item("c", 1)]);
        let selectors = ["$[*].name"];
        assert_eq!(told(&old, &json!([item("b", 1), item("c", 1)]), &selectors), "a|b c");
        assert_eq!(
            told(&old, &json!([item("z", 1), item("a", 1), item("b", 2), item("c", 1)]), &selectors),
            "b z|a c"
        );
        assert_eq!(told(&old, &json!([item("b", 1), item("a", 1), item("c", 1)]), &selectors), "a b c|");
    }
}
