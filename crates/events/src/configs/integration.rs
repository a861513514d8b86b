//! Integration `action-configs`: reconciles the bundle's configs with the control database.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::BoxFuture;
use reconcile::owned::{OwnedObject, OwnedObjectSet, OwnedObjectTable, StoredObject};
use reconcile::plan::PlanApproval;
use reconcile::{
    Bundle, BundleDiagnostic, BundleDocument, DesiredShardConfig, ObjectOwner, OwnershipOptions,
    ReconcileContext, ReconcileError, ReconcilePlan, ReconcileTxResult, Reconciler,
};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use sqlx::{PgConnection, PgPool};
use store::Result;

use super::check::ACTION_CONFIG_SCHEMA;
use super::stored::{
    delete_configs_in_tx, lock_configs_in_tx, next_version_in_tx, put_configs_in_tx, read_configs,
    select_configs,
};
use super::{ACTION_CONFIG_KIND, ActionConfig, ActionConfigSteps, StoredActionConfig};

/// Name of the integration.
pub const ACTION_CONFIGS_INTEGRATION: &str = "action-configs";

/// Reconciler of action configs.
pub struct ActionConfigReconciler {
    /// Pool of the control database.
    pub pool: PgPool,
}

/// Arguments of a run.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionConfigArguments {
    /// Limits the run to configs whose stored or desired author is this one.
    #[serde(default)]
    author: Option<String>,
}

/// Stored configs: all, or one author's.
pub struct ActionConfigTable {
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

/// Desired set of all configs. A config without author gets the owner's name as author.
pub fn desired_config_set(
    desired: Vec<ActionConfig>,
    terms: OwnershipOptions,
) -> OwnedObjectSet<ActionConfigTable> {
    desired_set_of_author(desired, None, terms)
}

fn desired_set_of_author(
    desired: Vec<ActionConfig>,
    author: Option<String>,
    terms: OwnershipOptions,
) -> OwnedObjectSet<ActionConfigTable> {
    let desired_configs =
        desired.into_iter().map(|config| config.with_default_author(terms.owner)).collect();
    let part = author.clone().unwrap_or_default();
    OwnedObjectSet {
        table: ActionConfigTable { author },
        desired: desired_configs,
        part,
        options: terms,
    }
}

/// Reconciles the stored configs with `desired` in one transaction; returns the plan.
pub async fn sync_configs(
    pool: &PgPool,
    desired: Vec<ActionConfig>,
    terms: OwnershipOptions,
    dry_run: bool,
) -> Result<ActionConfigSteps> {
    let approval = (!dry_run).then(PlanApproval::default);
    match reconcile::run_transaction(
        pool,
        RECONCILE_TRANSACTION,
        desired_config_set(desired, terms),
        approval,
    )
    .await
    {
        Ok((_, steps)) => Ok(steps),
        Err(ReconcileError::Store(error)) => Err(error),
        // Unreachable: the default approval accepts every plan.
        Err(_) => Err(store::Error::Abandoned),
    }
}

const RECONCILE_TRANSACTION: &str = "reconcile_action_configs";

impl Reconciler for ActionConfigReconciler {
    type Arguments = ActionConfigArguments;

    fn name(&self) -> &'static str {
        ACTION_CONFIGS_INTEGRATION
    }

    fn run<'a>(
        &'a self,
        context: &'a ReconcileContext<'a>,
        ActionConfigArguments { author }: ActionConfigArguments,
        dry_run: bool,
    ) -> BoxFuture<'a, std::result::Result<ReconcilePlan, ReconcileError>> {
        Box::pin(async move {
            let set = desired_set_of_author(
                context.query_documents(ACTION_CONFIG_SCHEMA)?,
                author,
                context.ownership_options(),
            );
            Ok(reconcile::run_transaction(
                &self.pool,
                RECONCILE_TRANSACTION,
                set,
                context.approval_for_run(dry_run),
            )
            .await?
            .0)
        })
    }

    fn early_exit_desired_state(
        &self,
        context: &ReconcileContext<'_>,
    ) -> std::result::Result<Option<Json>, ReconcileError> {
        let desired: Vec<ActionConfig> = context.query_documents(ACTION_CONFIG_SCHEMA)?;
        let by_name: BTreeMap<String, Json> = desired
            .into_iter()
            .map(|config| {
                (config.name.clone(), config.with_default_author(context.owner).to_json())
            })
            .collect();
        Ok(Some(json!(by_name)))
    }

    fn desired_state_shard_config(&self) -> Option<DesiredShardConfig> {
        Some(DesiredShardConfig {
            parameter: "author",
            selectors: &["$.*.author"],
            review: |_| true,
        })
    }

    fn stored_shards(&self) -> BoxFuture<'_, std::result::Result<Vec<String>, ReconcileError>> {
        Box::pin(async move {
            let stored = select_configs(&self.pool, "authors_of_configs", [None; 3]).await?;
            Ok(stored.into_iter().filter_map(|stored| stored.config.author).collect())
        })
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
    type Id = String;

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
}

impl StoredObject for StoredActionConfig {
    type Object = ActionConfig;

    fn object(&self) -> &ActionConfig {
        &self.config
    }

    fn owner(&self) -> ObjectOwner {
        self.owner
    }
}

impl OwnedObjectTable for ActionConfigTable {
    type StoredObject = StoredActionConfig;
    const RECONCILER_NAME: &'static str = ACTION_CONFIGS_INTEGRATION;

    fn lock_writers_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(lock_configs_in_tx(connection))
    }

    fn read_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
    ) -> BoxFuture<'a, ReconcileTxResult<Vec<StoredActionConfig>>> {
        Box::pin(async move { Ok(Ok(read_configs(connection, None, None, None).await?)) })
    }

    /// A config that moves from one author to another is in both parts: neither run deletes it.
    fn retain_part(
        &self,
        stored: &mut Vec<StoredActionConfig>,
        desired: &mut Vec<ActionConfig>,
        _: OwnershipOptions,
    ) {
        let Some(author) = &self.author else { return };
        let all = stored.iter().map(|stored| &stored.config).chain(&*desired);
        let names: BTreeSet<String> = all
            .filter(|config| config.author.as_ref() == Some(author))
            .map(|config| config.name.clone())
            .collect();
        stored.retain(|stored| names.contains(&stored.config.name));
        desired.retain(|config| names.contains(&config.name));
    }

    fn write_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        steps: &'a ActionConfigSteps,
        owner: ObjectOwner,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if steps.upserts.is_empty() && steps.deletes.is_empty() {
                return Ok(());
            }
            let version = next_version_in_tx(connection).await?;
            put_configs_in_tx(connection, &steps.upserts, owner, version).await?;
            delete_configs_in_tx(connection, &steps.deletes, version).await
        })
    }
}

/// Plan for callers that write the configs by other means.
pub fn plan_configs(
    stored: &[StoredActionConfig],
    desired: &[ActionConfig],
    terms: OwnershipOptions,
) -> ActionConfigSteps {
    let desired_configs: Vec<ActionConfig> =
        desired.iter().map(|config| config.clone().with_default_author(terms.owner)).collect();
    reconcile::owned::plan_objects(
        stored,
        &desired_configs,
        &reconcile::owned::allow_every_change(),
        terms,
    )
}
