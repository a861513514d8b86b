//! Requests to run reconcilers.

use audit::AuditActor;

use crate::diagnostic::BundleDiagnostic;
use crate::owner::ObjectOwner;

/// A request to run reconcilers.
#[derive(Debug, Clone)]
pub struct ReconcileRequest {
    /// Names of the reconcilers to run; empty for all.
    pub reconcilers: Vec<String>,
    /// Arguments as `key` and `value`; requires exactly one reconciler.
    pub arguments: Vec<(String, String)>,
    /// Plan without applying.
    pub dry_run: bool,
    /// Take over objects of other owners.
    pub take_over: bool,
    /// Allow deleting all objects of a kind if the bundle has none.
    pub allow_delete_all: bool,
    /// Owner of the objects that the run writes.
    pub owner: ObjectOwner,
    /// Who asked for the run: the actor of its changes in the audit trail.
    pub actor: AuditActor,
}

/// Why a request was rejected without any change.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileRequestError {
    /// The request names an unknown reconciler, argument or shard.
    #[error("{0}")]
    InvalidUsage(String),
    /// The bundle has problems; nothing is run.
    #[error("the bundle has {} problems", .0.len())]
    InvalidBundle(Vec<BundleDiagnostic>),
    /// The saved plan is stale: the bundle or a target has changed since.
    #[error("{0}; nothing was applied, make a new plan")]
    StalePlan(String),
}
