//! Kinds of which a bundle has nothing any more. A folder that was mistaken for the bundle looks just like one that wants all of
//! them gone, so deleting everything of a kind takes a word that says so.

use std::collections::BTreeMap;

use super::{OwnedObject, OwnershipOptions, StoredObject};

/// Kinds that would be emptied without leave, and how many objects of each would go.
pub(super) struct EmptiedKinds(BTreeMap<&'static str, usize>);

impl EmptiedKinds {
    /// From all that is there and all that is wanted, not only a part of it.
    pub(super) fn find<H: StoredObject>(
        stored: &[H],
        desired: &[H::Object],
        options: OwnershipOptions,
    ) -> Self {
        let mut emptied: BTreeMap<&'static str, usize> = BTreeMap::new();
        if options.allow_delete_all {
            return Self(emptied);
        }
        for held in stored.iter().filter(|held| held.owner().yields_to_bundle()) {
            *emptied.entry(held.object().kind()).or_default() += 1;
        }
        emptied.retain(|kind, _| !desired.iter().any(|object| object.kind() == *kind));
        Self(emptied)
    }

    /// Why an object of this kind is not deleted; nothing: it may be.
    pub(super) fn refusal_reason(&self, kind: &str) -> Option<String> {
        self.0.get(kind).map(|count| delete_all_refusal(kind, *count))
    }
}

/// Why nothing of a kind is deleted when all of it would be.
pub fn delete_all_refusal(kind: &str, count: usize) -> String {
    let objects = if count == 1 { "the only one" } else { "all" };
    format!(
        "the bundle has no {kind}, and this would delete {objects} ({count}); --allow-delete-all says that it is meant"
    )
}
