//! What an integration is: something that brings one target to what the bundle says about it.

use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value as Json;

use crate::owned::OwnershipOptions;
use crate::plan::PlanApproval;
use crate::{
    Bundle, BundleDiagnostic, BundleDocument, ObjectOwner, ReconcileOutcome, ReconcilePlan,
    ReconcilerMetadata,
};

/// Brings one target to the desired state.
pub trait Reconciler: Send + Sync + 'static {
    /// Its own arguments (`--arg key=value`): a struct that denies unknown fields, [`NoArguments`] if there are none.
    type Arguments: DeserializeOwned + Send + 'static;

    /// Its name, also that of its metadata.
    fn name(&self) -> &'static str;

    /// Plans, and unless `dry_run` brings the target to the plan: in one transaction that begins with
    /// [`exclude_others_in_tx`](crate::exclude_others_in_tx), or nothing. A dry run reads the same and writes nothing. What
    /// is about to be written is shown to [`ReconcileContext::approval`] first.
    fn run<'a>(
        &'a self,
        context: &'a ReconcileContext<'a>,
        arguments: Self::Arguments,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<ReconcilePlan, ReconcileError>>;

    /// The desired state alone, if it can be had without looking at the target: everything of the bundle that the plan
    /// depends on. What is equal in two bundles is not run.
    fn early_exit_desired_state(
        &self,
        _context: &ReconcileContext<'_>,
    ) -> Result<Option<Json>, ReconcileError> {
        Ok(None)
    }

    /// How the desired state falls into shards, if it does.
    fn desired_state_shard_config(&self) -> Option<DesiredShardConfig> {
        None
    }

    /// Shards that the target has, whatever the bundle says: they may be asked for, too.
    fn stored_shards(&self) -> BoxFuture<'_, Result<Vec<String>, ReconcileError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// The arguments of a run of one shard, from those of a run of all: the shard is the parameter's value. A run of one
    /// shard plans and changes what is the shard's, and nothing else.
    fn arguments_for_shard(&self, mut arguments: Json, shard: &str) -> Json {
        if let (Some(config), Some(arguments)) =
            (self.desired_state_shard_config(), arguments.as_object_mut())
        {
            arguments.insert(config.parameter.to_owned(), shard.into());
        }
        arguments
    }
}

/// How an integration's desired state falls into shards.
#[derive(Debug, Clone)]
pub struct DesiredShardConfig {
    /// The argument that names a shard.
    pub parameter: &'static str,
    /// JSONPaths to the shards' names within the desired state. A part of it is a shard's if a selector that leads into it
    /// finds the shard's name: `$.types.*.name` makes each of the types a shard's.
    pub selectors: &'static [&'static str],
    /// Whether a run of these shards only is worth it.
    pub review: fn(&[String]) -> bool,
}

/// The arguments of an integration that has none.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoArguments {}

/// Why an integration failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReconcileError {
    /// It asked for documents that its metadata does not list.
    #[error(
        "the integration {integration} asked for the schema {schema}, which its metadata does not list ({listed})"
    )]
    UnlistedSchema {
        /// Which.
        integration: &'static str,
        /// What it asked for.
        schema: String,
        /// What it may ask for.
        listed: String,
    },
    /// A document says what its schema allows, but the program does not.
    #[error("{0}")]
    InvalidDocument(BundleDiagnostic),
    /// The plan that was approved is not what would be done.
    #[error("what would be done is not what was approved: {0}; make a new plan")]
    StalePlan(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Something else failed.
    #[error("{0}")]
    Failed(String),
}

impl Serialize for ReconcileError {
    /// As the line that it is to people.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ReconcileError {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::Failed)
    }
}

/// What an integration is given: its view of the bundle, and what else is part of the run.
pub struct ReconcileContext<'a> {
    pub(crate) reconciler: &'static str,
    pub(crate) bundle: &'a Bundle,
    pub(crate) metadata: ReconcilerMetadata,
    pub(crate) selected: &'a [&'static str],
    pub(crate) outcomes: &'a [ReconcileOutcome],
    pub(crate) approval: PlanApproval,
    /// Who owns what the run writes.
    pub owner: ObjectOwner,
    /// Whether what belongs to others is taken over.
    pub take_over: bool,
    /// Whether everything of a kind may be deleted when the bundle has nothing of it.
    pub allow_delete_all: bool,
}

impl<'a> ReconcileContext<'a> {
    /// The documents of a schema, typed, by file. The only way to the bundle: a schema that the metadata does not list
    /// is an error, so that the list can be relied on.
    pub fn query_documents<T: DeserializeOwned>(
        &self,
        schema: &str,
    ) -> Result<Vec<T>, ReconcileError> {
        self.documents_of_schema(schema)?
            .map(|document| document.parse().map_err(ReconcileError::InvalidDocument))
            .collect()
    }

    /// Like [`ReconcileContext::query_documents`], for who needs the documents themselves.
    pub fn documents_of_schema(
        &self,
        schema: &str,
    ) -> Result<impl Iterator<Item = &'a BundleDocument> + use<'a>, ReconcileError> {
        let listed = &self.metadata.schemas;
        if !listed.iter().any(|listed| listed == schema) {
            let listed = crate::diagnostic::list_names(listed.iter().map(String::as_str));
            return Err(ReconcileError::UnlistedSchema {
                integration: self.reconciler,
                schema: schema.to_owned(),
                listed,
            });
        }
        Ok(self.bundle.documents_of_schema(schema))
    }

    /// Who wants the objects of a set.
    pub fn ownership_options(&self) -> OwnershipOptions {
        let Self { owner, take_over, allow_delete_all, .. } = *self;
        OwnershipOptions { owner, take_over, allow_delete_all }
    }

    /// What a real run may do; a dry run has nothing to show to anybody.
    pub fn approval_for_run(&self, dry_run: bool) -> Option<PlanApproval> {
        (!dry_run).then(|| self.approval())
    }

    /// What may be done: anything, or what a saved plan says.
    pub fn approval(&self) -> PlanApproval {
        self.approval.clone()
    }

    /// What became of an integration that ran before this one.
    pub fn earlier_outcome(&self, reconciler: &str) -> Option<&'a ReconcileOutcome> {
        self.outcomes.iter().find(|outcome| outcome.integration == reconciler)
    }

    /// The integrations that are still to run after this one.
    pub fn remaining_reconcilers(&self) -> Vec<&'static str> {
        let done =
            |name: &&'static str| *name == self.reconciler || self.earlier_outcome(name).is_some();
        self.selected.iter().copied().filter(|name| !done(name)).collect()
    }
}
