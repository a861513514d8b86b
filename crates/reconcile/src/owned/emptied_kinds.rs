//! Guard against deleting all objects of a kind. The wrong folder looks like a bundle without any
//! object of a kind, so deleting all of them requires `--allow-delete-all`.

use std::collections::BTreeMap;

use super::{OwnedObject, StoredObject};
use crate::owner::OwnershipOptions;

/// Kinds that the plan would empty without permission, with the number of objects deleted of each.
pub(super) struct EmptiedKinds(BTreeMap<&'static str, usize>);

impl EmptiedKinds {
    /// Computed from the full stored and desired state, also when the run covers only a part.
    pub(super) fn find<T: OwnedObject>(
        stored: &[StoredObject<T>],
        desired: &[T],
        options: OwnershipOptions,
    ) -> Self {
        let mut emptied: BTreeMap<&'static str, usize> = BTreeMap::new();
        if options.allow_delete_all {
            return Self(emptied);
        }
        for held in stored.iter().filter(|held| held.owner.yields_to_bundle()) {
            *emptied.entry(held.object.kind()).or_default() += 1;
        }
        emptied.retain(|kind, _| !desired.iter().any(|object| object.kind() == *kind));
        Self(emptied)
    }

    /// Why objects of this kind are not deleted; `None` if deleting is allowed.
    pub(super) fn refusal_reason(&self, kind: &str) -> Option<String> {
        self.0.get(kind).map(|count| delete_all_refusal(kind, *count))
    }
}

/// The refusal message for deleting all objects of a kind.
pub fn delete_all_refusal(kind: &str, count: usize) -> String {
    let objects = if count == 1 { "the only one" } else { "all" };
    format!(
        "the bundle has no {kind}, and this would delete {objects} ({count}); --allow-delete-all says that it is meant"
    )
}
