//! A plan: what brings a target to the desired state, and what was refused.

mod approval;
mod diff;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

pub use approval::PlanApproval;
pub use diff::{FieldChange, diff_fields};

use crate::fingerprint;

/// What is done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlanAction {
    /// It is new.
    Create,
    /// It changes.
    Update,
    /// It goes.
    Delete,
}

/// A change of one object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanChange {
    /// What is done.
    pub action: PlanAction,
    /// What kind of object it is, such as `account_type`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What changes in it.
    pub fields: Vec<FieldChange>,
}

/// A change that is not made. The object is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanRefusal {
    /// What was wanted.
    pub action: PlanAction,
    /// What kind of object it is.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Why not, and what to do instead.
    pub reason: String,
}

/// A part of the target that could not be brought to the desired state, or not even be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanShardFailure {
    /// Which shard.
    pub shard: String,
    /// Why.
    pub reason: String,
}

/// What brings a target to the desired state.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ReconcilePlan {
    /// What changes.
    pub changes: Vec<PlanChange>,
    /// What is refused.
    pub refused: Vec<PlanRefusal>,
    /// How many objects that were nobody's now belong to the bundle, as they are.
    pub adopted: usize,
    /// Shards of a whole run that failed; the others are as planned.
    #[serde(default)]
    pub failed: Vec<PlanShardFailure>,
    /// The fingerprint of the target's state as it was when the plan was made, by part of the target; a target that is one
    /// whole has the part ``.
    #[serde(default)]
    pub target: BTreeMap<String, String>,
}

impl ReconcilePlan {
    /// Adds a creation; every field of `after` is new.
    pub fn add_create(&mut self, kind: &str, name: &str, after: &Json) {
        self.add_change(
            PlanAction::Create,
            kind,
            name,
            diff_fields(&Json::Object(Default::default()), after),
        );
    }

    /// Adds a change of fields.
    pub fn add_update(&mut self, kind: &str, name: &str, fields: Vec<FieldChange>) {
        self.add_change(PlanAction::Update, kind, name, fields);
    }

    /// Adds a deletion; every field of `before` goes.
    pub fn add_delete(&mut self, kind: &str, name: &str, before: &Json) {
        self.add_change(
            PlanAction::Delete,
            kind,
            name,
            diff_fields(before, &Json::Object(Default::default())),
        );
    }

    /// Adds a refusal.
    pub fn add_refusal(
        &mut self,
        action: PlanAction,
        kind: &str,
        name: &str,
        reason: impl Into<String>,
    ) {
        let (kind, name) = (kind.to_owned(), name.to_owned());
        self.refused.push(PlanRefusal { action, kind, name, reason: reason.into() });
    }

    /// Adds a shard that failed.
    pub fn add_shard_failure(&mut self, shard: impl Into<String>, reason: impl Into<String>) {
        self.failed.push(PlanShardFailure { shard: shard.into(), reason: reason.into() });
    }

    /// Binds the plan to the state that the target had when it was made: everything that the plan was made from, except
    /// the bundle.
    pub fn bind_target(&mut self, target: &impl Serialize) {
        self.bind_target_part("", target);
    }

    /// Like [`ReconcilePlan::bind_target`], for the plan of one part of a target, such as a shard.
    pub fn bind_target_part(&mut self, part: &str, target: &impl Serialize) {
        self.target.insert(part.to_owned(), fingerprint::to_hex(&fingerprint::hash_json(target)));
    }

    /// Whether there is nothing to do, nothing to say and nothing went wrong.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
            && self.refused.is_empty()
            && self.failed.is_empty()
            && self.adopted == 0
    }

    /// Takes in the plan of another part of the same target. What is in both parts is one change.
    pub fn merge(&mut self, other: ReconcilePlan) {
        let new = other.changes.into_iter().filter(|change| !self.changes.contains(change));
        let new: Vec<PlanChange> = new.collect();
        self.changes.extend(new);
        self.refused.extend(other.refused);
        self.failed.extend(other.failed);
        self.adopted += other.adopted;
        self.target.extend(other.target);
    }

    /// How many changes of a kind there are.
    pub fn count_changes(&self, action: PlanAction) -> usize {
        self.changes.iter().filter(|change| change.action == action).count()
    }

    fn add_change(&mut self, action: PlanAction, kind: &str, name: &str, fields: Vec<FieldChange>) {
        self.changes.push(PlanChange {
            action,
            kind: kind.to_owned(),
            name: name.to_owned(),
            fields,
        });
    }
}
