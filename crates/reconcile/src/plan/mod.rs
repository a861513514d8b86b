//! Plans: the changes that bring a target to the desired state, and the refused changes.

mod approval;
mod diff;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

pub use approval::PlanApproval;
pub use diff::{FieldChange, diff_fields};

use crate::fingerprint;

/// Kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlanAction {
    /// The object does not exist yet.
    Create,
    /// Fields of the object change.
    Update,
    /// The object is removed.
    Delete,
}

impl PlanAction {
    /// The verb, as in reports and saved plans.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// A planned change of one object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanChange {
    /// Create, update or delete.
    pub action: PlanAction,
    /// Kind of object, such as `account_type`.
    pub kind: String,
    /// Name of the object, unique within its kind.
    pub name: String,
    /// Changed fields; all fields for creates and deletes.
    pub fields: Vec<FieldChange>,
}

/// A refused change; the object stays unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanRefusal {
    /// The refused action.
    pub action: PlanAction,
    /// Kind of object, such as `account_type`.
    pub kind: String,
    /// Name of the object, unique within its kind.
    pub name: String,
    /// Reason, and what to do instead.
    pub reason: String,
}

/// A shard of the target that could not be read or changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanShardFailure {
    /// Name of the shard.
    pub shard: String,
    /// Error message.
    pub reason: String,
}

/// The changes that bring a target to the desired state.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ReconcilePlan {
    /// Changes of single objects.
    pub changes: Vec<PlanChange>,
    /// Refused changes.
    pub refused: Vec<PlanRefusal>,
    /// Number of unchanged objects whose owner becomes the bundle.
    pub adopted: usize,
    /// Failed shards of a full run; the other shards are as planned.
    #[serde(default)]
    pub failed: Vec<PlanShardFailure>,
    /// Fingerprints of the target state that the plan was made from, by part of the target; the
    /// part is empty if the target has no parts.
    #[serde(default)]
    pub target: BTreeMap<String, String>,
}

impl ReconcilePlan {
    /// Adds a creation; all fields of `after` are new.
    pub fn add_create(&mut self, kind: &str, name: &str, after: &Json) {
        self.add_change(
            PlanAction::Create,
            kind,
            name,
            diff_fields(&Json::Object(Default::default()), after),
        );
    }

    /// Adds an update of these fields.
    pub fn add_update(&mut self, kind: &str, name: &str, fields: Vec<FieldChange>) {
        self.add_change(PlanAction::Update, kind, name, fields);
    }

    /// Adds a deletion; all fields of `before` are removed.
    pub fn add_delete(&mut self, kind: &str, name: &str, before: &Json) {
        self.add_change(
            PlanAction::Delete,
            kind,
            name,
            diff_fields(before, &Json::Object(Default::default())),
        );
    }

    /// Adds a refused change.
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

    /// Adds a failed shard.
    pub fn add_shard_failure(&mut self, shard: impl Into<String>, reason: impl Into<String>) {
        self.failed.push(PlanShardFailure { shard: shard.into(), reason: reason.into() });
    }

    /// Binds the plan to the target state that it was made from: all its inputs except the bundle.
    pub fn bind_target(&mut self, target: &impl Serialize) {
        self.bind_target_part("", target);
    }

    /// Like [`ReconcilePlan::bind_target`] for one part of a target, such as a shard.
    pub fn bind_target_part(&mut self, part: &str, target: &impl Serialize) {
        self.target.insert(part.to_owned(), hex::encode(fingerprint::hash_json(target)));
    }

    /// Whether there are no changes, refusals, failures or adopted objects.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
            && self.refused.is_empty()
            && self.failed.is_empty()
            && self.adopted == 0
    }

    /// Merges the plan of another part of the same target; equal changes are merged into one.
    pub fn merge(&mut self, other: ReconcilePlan) {
        let new = other.changes.into_iter().filter(|change| !self.changes.contains(change));
        let new: Vec<PlanChange> = new.collect();
        self.changes.extend(new);
        self.refused.extend(other.refused);
        self.failed.extend(other.failed);
        self.adopted += other.adopted;
        self.target.extend(other.target);
    }

    /// Number of changes with this action.
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
