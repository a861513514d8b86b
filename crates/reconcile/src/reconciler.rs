//! The reconciler trait: brings one target to the desired state in the bundle.

use futures::future::BoxFuture;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::bundle::{Bundle, BundleDocument, ReconcilerMetadata};
use crate::error::ReconcileError;
use crate::owner::{ObjectOwner, OwnershipOptions};
use crate::plan::{PlanApproval, ReconcilePlan};
use crate::report::ReconcileOutcome;

/// A reconciler.
pub trait Reconciler: Send + Sync + 'static {
    /// Arguments (`--arg key=value`): a struct that denies unknown fields, or [`NoArguments`].
    type Arguments: DeserializeOwned + Send + 'static;

    /// Name, as in its metadata.
    fn name(&self) -> &'static str;

    /// Plans and, unless `dry_run`, applies the plan completely or not at all: in one transaction
    /// that starts with [`exclude_other_runs_in_tx`](crate::exclude_other_runs_in_tx). A dry run
    /// reads the same data and writes nothing. A real run checks its plan with
    /// [`ReconcileContext::approval`] before writing.
    fn run<'a>(
        &'a self,
        context: &'a ReconcileContext<'a>,
        arguments: Self::Arguments,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<ReconcilePlan, ReconcileError>>;

    /// The desired state without access to the target, if possible: all parts of the bundle that
    /// the plan depends on. If it is equal in two bundles, the reconciler may be skipped.
    fn early_exit_desired_state(
        &self,
        _context: &ReconcileContext<'_>,
    ) -> Result<Option<Json>, ReconcileError> {
        Ok(None)
    }

    /// How the desired state is divided into shards, if it is.
    fn desired_state_shard_config(&self) -> Option<DesiredShardConfig> {
        None
    }

    /// Shards stored in the target, in the bundle or not: they may be requested as well.
    fn stored_shards(&self) -> BoxFuture<'_, Result<Vec<String>, ReconcileError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// Arguments for running one shard: sets the shard parameter. Such a run plans and changes only
    /// objects of the shard.
    fn arguments_for_shard(&self, mut arguments: Json, shard: &str) -> Json {
        if let (Some(config), Some(arguments)) =
            (self.desired_state_shard_config(), arguments.as_object_mut())
        {
            arguments.insert(config.parameter.to_owned(), shard.into());
        }
        arguments
    }
}

/// Division of a desired state into shards.
#[derive(Debug, Clone)]
pub struct DesiredShardConfig {
    /// Name of the argument that selects a shard.
    pub parameter: &'static str,
    /// JSONPaths of the shard names within the desired state. A part belongs to the shard whose
    /// name a selector finds in it: `$.types.*.name` makes each type a part.
    pub selectors: &'static [&'static str],
    /// Whether running only these shards is worthwhile; otherwise all are run.
    pub review: fn(&[String]) -> bool,
}

/// Arguments of a reconciler without any.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoArguments {}

/// Context of a run: the reconciler's view of the bundle, and the run's options.
pub struct ReconcileContext<'a> {
    pub(crate) reconciler: &'static str,
    pub(crate) bundle: &'a Bundle,
    pub(crate) metadata: ReconcilerMetadata,
    pub(crate) selected: &'a [&'static str],
    pub(crate) outcomes: &'a [ReconcileOutcome],
    pub(crate) approval: PlanApproval,
    /// Owner of the objects that the run writes.
    pub owner: ObjectOwner,
    /// Whether the run takes over objects of other owners.
    pub take_over: bool,
    /// Whether all objects of a kind may be deleted if the bundle has none.
    pub allow_delete_all: bool,
}

impl<'a> ReconcileContext<'a> {
    /// Deserialized documents of a schema, sorted by file. The only access to the bundle: a schema
    /// that the metadata does not list is an error, so the list of inputs is complete.
    pub fn query_documents<T: DeserializeOwned>(
        &self,
        schema: &str,
    ) -> Result<Vec<T>, ReconcileError> {
        self.documents_of_schema(schema)?
            .map(|document| document.parse().map_err(ReconcileError::InvalidDocument))
            .collect()
    }

    /// Like [`ReconcileContext::query_documents`], without deserialization.
    pub fn documents_of_schema(
        &self,
        schema: &str,
    ) -> Result<impl Iterator<Item = &'a BundleDocument> + use<'a>, ReconcileError> {
        let listed = &self.metadata.schemas;
        if !listed.iter().any(|listed| listed == schema) {
            let listed = yaml::list_names(listed.iter().map(String::as_str));
            return Err(ReconcileError::UnlistedSchema {
                reconciler: self.reconciler,
                schema: schema.to_owned(),
                listed,
            });
        }
        Ok(self.bundle.documents_of_schema(schema))
    }

    /// Ownership options of the run.
    pub fn ownership_options(&self) -> OwnershipOptions {
        let Self { owner, take_over, allow_delete_all, .. } = *self;
        OwnershipOptions { owner, take_over, allow_delete_all }
    }

    /// The approval of a real run; `None` for a dry run.
    pub fn approval_for_run(&self, dry_run: bool) -> Option<PlanApproval> {
        (!dry_run).then(|| self.approval())
    }

    /// The approval: any change, or only those of a saved plan.
    pub fn approval(&self) -> PlanApproval {
        self.approval.clone()
    }

    /// Outcome of a reconciler that ran earlier in this run.
    pub fn earlier_outcome(&self, reconciler: &str) -> Option<&'a ReconcileOutcome> {
        self.outcomes.iter().find(|outcome| outcome.reconciler == reconciler)
    }

    /// Selected reconcilers that run after this one.
    pub fn remaining_reconcilers(&self) -> Vec<&'static str> {
        let mut remaining = Vec::new();
        for name in self.selected {
            if *name != self.reconciler && self.earlier_outcome(name).is_none() {
                remaining.push(*name);
            }
        }
        remaining
    }
}
