//! The integration `ledger-types`: reconciles the bundle's type definitions with the control
//! database.
//!
//! - Shape: one transaction that excludes other runs (advisory lock), reads `ledger_types`, queries
//!   usage on the shards, plans and writes.
//! - Cost: usage is also queried once before the transaction, so that an unavailable shard fails
//!   the run while no transaction is open.
//! - Promise: concurrent runs are serialized; a crash leaves nothing half-written.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use reconcile::owned::{OwnedObjectSet, OwnedObjectTable as _};
use reconcile::{
    Bundle, BundleDiagnostic, BundleDocument, DesiredShardConfig, ReconcileContext, ReconcileError,
    ReconcilePlan, Reconciler,
};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use sqlx::PgPool;

use super::keeper::{LedgerTypeKeeper, LedgerTypeUsageCheck};
use super::{LedgerTypeDefinition, LedgerTypeKind, OwnershipOptions, read_all_types};

/// Integration name, as in bundles and on the command line.
pub const LEDGER_TYPES_INTEGRATION: &str = "ledger-types";

/// Usage lookup for types, implemented where the platform is composed.
pub trait LedgerTypeUsage: Send + Sync + 'static {
    /// Short description of what uses the type; `None` if nothing does.
    fn find_usage<'a>(
        &'a self,
        question: &'a LedgerTypeUsageQuery,
    ) -> BoxFuture<'a, Result<Option<String>, ReconcileError>>;
}

/// The type and the reconcile run of a usage lookup.
#[derive(Debug, Clone)]
pub struct LedgerTypeUsageQuery {
    /// Kind of the type.
    pub kind: LedgerTypeKind,
    /// Name of the type.
    pub name: String,
    /// Dry run: nothing is written, so the answer must anticipate the changes of
    /// [`Self::remaining_integrations`].
    pub dry_run: bool,
    /// Integrations that run later in the same reconcile run.
    pub remaining_integrations: Vec<&'static str>,
}

/// Reconciler of the types in the control database.
pub struct LedgerTypeReconciler {
    /// Pool of the control database.
    pub pool: PgPool,
    /// Usage lookup for types that would change or be deleted.
    pub usage: Arc<dyn LedgerTypeUsage>,
}

/// Arguments of the integration `ledger-types`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerTypeArguments {
    /// Restricts the run to types of this name.
    #[serde(default, rename = "type")]
    type_name: Option<String>,
}

impl LedgerTypeKind {
    /// Parses a bundle document as a type of this kind.
    pub fn parse_document(
        self,
        document: &BundleDocument,
    ) -> Result<LedgerTypeDefinition, BundleDiagnostic> {
        Ok(match self {
            LedgerTypeKind::Account => LedgerTypeDefinition::Account(document.parse()?),
            LedgerTypeKind::Lock => LedgerTypeDefinition::Lock(document.parse()?),
            LedgerTypeKind::State => LedgerTypeDefinition::State(document.parse()?),
        })
    }
}

/// All type definitions of a bundle.
pub fn parse_bundle_types(bundle: &Bundle) -> Result<Vec<LedgerTypeDefinition>, BundleDiagnostic> {
    let mut types = Vec::new();
    for kind in LedgerTypeKind::ALL {
        for document in bundle.documents_of_schema(kind.schema()) {
            types.push(kind.parse_document(document)?);
        }
    }
    Ok(types)
}

/// Desired types, from the documents that this integration may read.
fn parse_desired_types(
    context: &ReconcileContext<'_>,
) -> Result<Vec<LedgerTypeDefinition>, ReconcileError> {
    let mut desired = Vec::new();
    for kind in LedgerTypeKind::ALL {
        for document in context.documents_of_schema(kind.schema())? {
            desired.push(kind.parse_document(document).map_err(ReconcileError::InvalidDocument)?);
        }
    }
    Ok(desired)
}

fn desired_state_json(types: &[LedgerTypeDefinition]) -> Json {
    let mut state: BTreeMap<&str, BTreeMap<&str, Json>> = BTreeMap::new();
    for definition in types {
        let of_kind = state.entry(definition.kind().object_name()).or_default();
        of_kind.insert(definition.name(), definition.to_json());
    }
    json!(state)
}

impl Reconciler for LedgerTypeReconciler {
    type Arguments = LedgerTypeArguments;

    fn name(&self) -> &'static str {
        LEDGER_TYPES_INTEGRATION
    }

    fn run<'a>(
        &'a self,
        context: &'a ReconcileContext<'a>,
        LedgerTypeArguments { type_name: only }: LedgerTypeArguments,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<ReconcilePlan, ReconcileError>> {
        Box::pin(async move {
            let usage_check = LedgerTypeUsageCheck {
                usage: self.usage.clone(),
                dry_run,
                remaining_integrations: context.remaining_reconcilers(),
            };
            let part = only.clone().unwrap_or_default();
            let keeper = LedgerTypeKeeper { type_name: only, usage_check: Some(usage_check) };
            let set = OwnedObjectSet {
                table: keeper,
                desired: parse_desired_types(context)?,
                part,
                options: context.ownership_options(),
            };
            check_usage_first(&self.pool, &set).await?;
            Ok(reconcile::run_transaction(
                &self.pool,
                "reconcile_ledger_types",
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
    ) -> Result<Option<Json>, ReconcileError> {
        Ok(Some(desired_state_json(&parse_desired_types(context)?)))
    }

    fn desired_state_shard_config(&self) -> Option<DesiredShardConfig> {
        Some(DesiredShardConfig { parameter: "type", selectors: &["$.*.*.name"], review: |_| true })
    }

    fn stored_shards(&self) -> BoxFuture<'_, Result<Vec<String>, ReconcileError>> {
        Box::pin(async move {
            let stored = store::run_statement(&self.pool, "names_of_types", |connection| {
                Box::pin(read_all_types(connection))
            })
            .await?;
            let stored = stored.map_err(ReconcileError::Failed)?;
            Ok(stored.iter().map(|stored| stored.definition.name().to_owned()).collect())
        })
    }
}

/// Desired set for a database in which no type is in use, such as a new one.
pub fn build_initial_set(
    wanted: Vec<LedgerTypeDefinition>,
    terms: OwnershipOptions,
) -> OwnedObjectSet<LedgerTypeKeeper> {
    OwnedObjectSet {
        table: LedgerTypeKeeper { type_name: None, usage_check: None },
        desired: wanted,
        part: String::new(),
        options: terms,
    }
}

/// Runs the transaction's usage queries beforehand, so that an unavailable shard does not leave a
/// transaction waiting.
async fn check_usage_first(
    pool: &PgPool,
    set: &OwnedObjectSet<LedgerTypeKeeper>,
) -> Result<(), ReconcileError> {
    let stored = store::run_statement(pool, "look_at_types", |connection| {
        Box::pin(read_all_types(connection))
    })
    .await?;
    let (mut stored, mut wanted) = (stored.map_err(ReconcileError::Failed)?, set.desired.clone());
    set.table.retain_part(&mut stored, &mut wanted, set.options);
    set.table.check_refusals(&stored, &wanted, set.options).await.map(drop)
}
