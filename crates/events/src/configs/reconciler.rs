//! Reconciler `action-configs`: reconciles the bundle's configs with the control database.

use audit::AuditActor;
use futures::future::BoxFuture;
use reconcile::owned::{
    OwnedObject, OwnedObjectSet, OwnedObjectTransaction, StoredObject, allow_every_change,
    plan_objects,
};
use reconcile::plan::PlanApproval;
use reconcile::{
    Bundle, BundleDiagnostic, BundleDocument, DesiredShardConfig, ObjectOwner, OwnershipOptions,
    ReconcileContext, ReconcileError, ReconcileTxResult,
};
use serde::Deserialize;
use serde_json::Value as Json;
use sqlx::{PgConnection, PgPool};
use store::Result;

use super::check::ACTION_CONFIG_SCHEMA;
use super::stored::{
    ActionConfigFilter, delete_configs_in_tx, lock_configs_in_tx, next_version_in_tx,
    put_configs_in_tx, read_configs,
};
use super::{ACTION_CONFIG_KIND, ActionConfig, ActionConfigSteps, StoredActionConfig};

/// Name of the reconciler.
pub const ACTION_CONFIGS_RECONCILER: &str = "action-configs";

/// Reconciler of action configs in the control database; its shards are the authors.
pub type ActionConfigReconciler = OwnedObjectSet<ActionConfig>;

/// Arguments of a run.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionConfigArguments {
    /// Limits the run to configs whose stored or desired author is this one.
    #[serde(default)]
    author: Option<String>,
}

/// Parses a bundle's configs, sorted by name.
pub fn parse_configs(bundle: &Bundle) -> std::result::Result<Vec<ActionConfig>, BundleDiagnostic> {
    let all: std::result::Result<Vec<ActionConfig>, _> =
        bundle.documents_of_schema(ACTION_CONFIG_SCHEMA).map(BundleDocument::parse).collect();
    all.map(|mut all| {
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    })
}

/// Desired state of all configs. A config without author gets the owner's name as author.
pub fn desired_config_set(
    desired: Vec<ActionConfig>,
    options: OwnershipOptions,
) -> OwnedObjectTransaction<ActionConfig> {
    OwnedObjectTransaction::for_unused_objects(
        with_default_authors(desired, options.owner),
        options,
    )
}

fn with_default_authors(configs: Vec<ActionConfig>, owner: ObjectOwner) -> Vec<ActionConfig> {
    configs.into_iter().map(|config| config.with_default_author(owner)).collect()
}

/// Reconciles the stored configs with `desired` in one transaction; returns the plan. A dry run has no
/// actor.
pub async fn sync_configs(
    pool: &PgPool,
    desired: Vec<ActionConfig>,
    options: OwnershipOptions,
    actor: Option<AuditActor>,
) -> Result<ActionConfigSteps> {
    let approval = actor.map(PlanApproval::of_any_change);
    match reconcile::run_transaction(
        pool,
        ActionConfig::TRANSACTION_NAME,
        desired_config_set(desired, options),
        approval,
    )
    .await
    {
        Ok((_, steps)) => Ok(steps),
        Err(ReconcileError::Store(error)) => Err(error),
        // Unreachable: this approval accepts every plan.
        Err(_) => Err(store::Error::Abandoned),
    }
}

impl ActionConfig {
    /// Sets a missing author to the owner's name.
    fn with_default_author(mut self, owner: ObjectOwner) -> Self {
        self.author.get_or_insert_with(|| owner.name().to_owned());
        self
    }
}

impl OwnedObject for ActionConfig {
    const RECONCILER_NAME: &'static str = ACTION_CONFIGS_RECONCILER;
    const TRANSACTION_NAME: &'static str = "reconcile_action_configs";
    const READ_NAME: &'static str = "authors_of_configs";
    const SHARD_CONFIG: Option<DesiredShardConfig> = Some(DesiredShardConfig {
        parameter: "author",
        selectors: &["$.*.author"],
        review: |_| true,
    });

    type Id = String;
    type Arguments = ActionConfigArguments;
    type Usage = ();

    fn id(&self) -> String {
        self.name.clone()
    }

    fn kind(&self) -> &'static str {
        ACTION_CONFIG_KIND
    }

    fn name(&self) -> &str {
        &self.name
    }

    /// Canonical member order, independent of the stored form.
    fn to_json(&self) -> Json {
        ActionConfig::to_json(self)
    }

    fn shard(&self) -> Option<&str> {
        self.author.as_deref()
    }

    fn requested_shard(arguments: ActionConfigArguments) -> Option<String> {
        arguments.author
    }

    fn find_desired(
        context: &ReconcileContext<'_>,
    ) -> std::result::Result<Vec<Self>, ReconcileError> {
        Ok(with_default_authors(context.query_documents(ACTION_CONFIG_SCHEMA)?, context.owner))
    }

    fn lock_writers_in_tx(connection: &mut PgConnection) -> BoxFuture<'_, Result<()>> {
        Box::pin(lock_configs_in_tx(connection))
    }

    fn read_in_tx(
        connection: &mut PgConnection,
    ) -> BoxFuture<'_, ReconcileTxResult<Vec<StoredObject<Self>>>> {
        Box::pin(async move {
            let stored = read_configs(connection, ActionConfigFilter::default()).await?;
            Ok(Ok(stored.into_iter().map(StoredActionConfig::into_object).collect()))
        })
    }

    fn write_in_tx<'a>(
        connection: &'a mut PgConnection,
        writes: &'a ActionConfigSteps,
        owner: ObjectOwner,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if writes.upserts.is_empty() && writes.deletes.is_empty() {
                return Ok(());
            }
            let version = next_version_in_tx(connection).await?;
            put_configs_in_tx(connection, &writes.upserts, owner, version).await?;
            delete_configs_in_tx(connection, &writes.deletes, version).await
        })
    }
}

impl StoredActionConfig {
    fn into_object(self) -> StoredObject<ActionConfig> {
        StoredObject { object: self.config, owner: self.owner }
    }
}

/// Plan for callers that write the configs by other means.
pub fn plan_configs(
    stored: &[StoredActionConfig],
    desired: &[ActionConfig],
    options: OwnershipOptions,
) -> ActionConfigSteps {
    let stored: Vec<StoredObject<ActionConfig>> =
        stored.iter().cloned().map(StoredActionConfig::into_object).collect();
    let desired = with_default_authors(desired.to_vec(), options.owner);
    plan_objects(&stored, &desired, &allow_every_change(), options)
}
