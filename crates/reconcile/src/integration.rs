//! What an integration is: something that brings one target to what the bundle says about it.

use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value as Json;

use crate::owned::Terms;
use crate::plan::Approval;
use crate::{Bundle, Diagnostic, Document, Metadata, Outcome, Owner, Plan};

/// Brings one target to the desired state.
pub trait Integration: Send + Sync + 'static {
    /// Its own arguments (`--arg key=value`): a struct that denies unknown fields, [`NoArguments`] if there are none.
    type Arguments: DeserializeOwned + Send + 'static;

    /// Its name, also that of its metadata.
    fn name(&self) -> &'static str;

    /// Plans, and unless `dry_run` brings the target to the plan: in one transaction that begins with
    /// [`exclude_others_in_tx`](crate::exclude_others_in_tx), or nothing. A dry run reads the same and writes nothing. What
    /// is about to be written is shown to [`Context::approval`] first.
    fn run<'a>(
        &'a self,
        context: &'a Context<'a>,
        arguments: Self::Arguments,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<Plan, RunError>>;

    /// The desired state alone, if it can be had without looking at the target: everything of the bundle that the plan
    /// depends on. What is equal in two bundles is not run.
    fn early_exit_desired_state(&self, _context: &Context<'_>) -> Result<Option<Json>, RunError> {
        Ok(None)
    }

    /// How the desired state falls into shards, if it does.
    fn desired_state_shard_config(&self) -> Option<ShardConfig> {
        None
    }

    /// Shards that the target has, whatever the bundle says: they may be asked for, too.
    fn stored_shards(&self) -> BoxFuture<'_, Result<Vec<String>, RunError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// The arguments of a run of one shard, from those of a run of all: the shard is the parameter's value. A run of one
    /// shard plans and changes what is the shard's, and nothing else.
    fn for_shard(&self, mut arguments: Json, shard: &str) -> Json {
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
pub struct ShardConfig {
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
pub enum RunError {
    /// It asked for documents that its metadata does not list.
    #[error(
        "the integration {integration} asked for the schema {schema}, which its metadata does not list ({listed})"
    )]
    Unlisted {
        /// Which.
        integration: &'static str,
        /// What it asked for.
        schema: String,
        /// What it may ask for.
        listed: String,
    },
    /// A document says what its schema allows, but the program does not.
    #[error("{0}")]
    Document(Diagnostic),
    /// The plan that was approved is not what would be done.
    #[error("what would be done is not what was approved: {0}; make a new plan")]
    Moved(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Something else failed.
    #[error("{0}")]
    Failed(String),
}

impl Serialize for RunError {
    /// As the line that it is to people.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RunError {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::Failed)
    }
}

/// What an integration is given: its view of the bundle, and what else is part of the run.
pub struct Context<'a> {
    pub(crate) integration: &'static str,
    pub(crate) bundle: &'a Bundle,
    pub(crate) metadata: Metadata,
    pub(crate) selected: &'a [&'static str],
    pub(crate) outcomes: &'a [Outcome],
    pub(crate) approval: Approval,
    /// Who owns what the run writes.
    pub owner: Owner,
    /// Whether what belongs to others is taken over.
    pub take_over: bool,
    /// Whether everything of a kind may be deleted when the bundle has nothing of it.
    pub allow_delete_all: bool,
}

impl<'a> Context<'a> {
    /// The documents of a schema, typed, by file. The only way to the bundle: a schema that the metadata does not list
    /// is an error, so that the list can be relied on.
    pub fn query<T: DeserializeOwned>(&self, schema: &str) -> Result<Vec<T>, RunError> {
        self.documents(schema)?.map(|document| document.parse().map_err(RunError::Document)).collect()
    }

    /// Like [`Context::query`], for who needs the documents themselves.
    pub fn documents(&self, schema: &str) -> Result<impl Iterator<Item = &'a Document> + use<'a>, RunError> {
        let listed = &self.metadata.schemas;
        if !listed.iter().any(|listed| listed == schema) {
            let listed = crate::diagnostic::listed(listed.iter().map(String::as_str));
            return Err(RunError::Unlisted {
                integration: self.integration,
                schema: schema.to_owned(),
                listed,
            });
        }
        Ok(self.bundle.documents(schema))
    }

    /// Who wants the objects of a set.
    pub fn terms(&self) -> Terms {
        let Self { owner, take_over, allow_delete_all, .. } = *self;
        Terms { owner, take_over, allow_delete_all }
    }

    /// What a real run may do; a dry run has nothing to show to anybody.
    pub fn approval_of(&self, dry_run: bool) -> Option<Approval> {
        (!dry_run).then(|| self.approval())
    }

    /// What may be done: anything, or what a saved plan says.
    pub fn approval(&self) -> Approval {
        self.approval.clone()
    }

    /// What became of an integration that ran before this one.
    pub fn earlier(&self, integration: &str) -> Option<&'a Outcome> {
        self.outcomes.iter().find(|outcome| outcome.integration == integration)
    }

    /// The integrations that are still to run after this one.
    pub fn to_come(&self) -> Vec<&'static str> {
        let done = |name: &&'static str| *name == self.integration || self.earlier(name).is_some();
        self.selected.iter().copied().filter(|name| !done(name)).collect()
    }
}
