//! The reconciler `ledger-types`: reconciles the bundle's type definitions with the control
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
use reconcile::owned::{
    ObjectUsageCheck, OwnedObject, OwnedObjectSet, PlannedObjectWrites, RefusalCheck, StoredObject,
};
use reconcile::{
    Bundle, BundleDiagnostic, BundleDocument, DesiredShardConfig, ObjectOwner, ReconcileContext,
    ReconcileError, ReconcileTxResult,
};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use sqlx::PgConnection;

use super::plan::{LedgerTypeUses, build_refusal, find_usage_questions};
use super::{
    LedgerTypeDefinition, LedgerTypeKind, OwnershipOptions, delete_type_in_tx, notify_types_in_tx,
    put_type_in_tx, read_all_types,
};

/// Reconciler name, as in bundles and on the command line.
pub const LEDGER_TYPES_RECONCILER: &str = "ledger-types";

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
    /// Reconcilers that run later in the same reconcile run.
    pub remaining_integrations: Vec<&'static str>,
}

/// Reconciler of the types in the control database; its shards are the names of types.
pub type LedgerTypeReconciler = OwnedObjectSet<LedgerTypeDefinition>;

/// Arguments of the reconciler `ledger-types`.
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

impl OwnedObject for LedgerTypeDefinition {
    const RECONCILER_NAME: &'static str = LEDGER_TYPES_RECONCILER;
    const TRANSACTION_NAME: &'static str = "reconcile_ledger_types";
    const READ_NAME: &'static str = "types_to_reconcile";
    const SHARD_CONFIG: Option<DesiredShardConfig> = Some(DesiredShardConfig {
        parameter: "type",
        selectors: &["$.*.*.name"],
        review: |_| true,
    });
    const CHECKS_USAGE_FIRST: bool = true;

    type Id = (LedgerTypeKind, String);
    type Arguments = LedgerTypeArguments;
    type Usage = Arc<dyn LedgerTypeUsage>;

    fn id(&self) -> (LedgerTypeKind, String) {
        (LedgerTypeDefinition::kind(self), LedgerTypeDefinition::name(self).to_owned())
    }

    fn kind(&self) -> &'static str {
        LedgerTypeDefinition::kind(self).object_name()
    }

    fn name(&self) -> &str {
        LedgerTypeDefinition::name(self)
    }

    fn to_json(&self) -> Json {
        LedgerTypeDefinition::to_json(self)
    }

    fn shard(&self) -> Option<&str> {
        Some(LedgerTypeDefinition::name(self))
    }

    fn requested_shard(arguments: LedgerTypeArguments) -> Option<String> {
        arguments.type_name
    }

    fn find_desired(context: &ReconcileContext<'_>) -> Result<Vec<Self>, ReconcileError> {
        let mut desired = Vec::new();
        for kind in LedgerTypeKind::ALL {
            for document in context.documents_of_schema(kind.schema())? {
                let definition = kind.parse_document(document);
                desired.push(definition.map_err(ReconcileError::InvalidDocument)?);
            }
        }
        Ok(desired)
    }

    fn desired_state_json(desired: &[Self]) -> Json {
        let mut state: BTreeMap<&str, BTreeMap<&str, Json>> = BTreeMap::new();
        for definition in desired {
            let of_kind = state.entry(definition.kind().object_name()).or_default();
            of_kind.insert(definition.name(), definition.to_json());
        }
        json!(state)
    }

    fn read_in_tx(
        connection: &mut PgConnection,
    ) -> BoxFuture<'_, ReconcileTxResult<Vec<StoredObject<Self>>>> {
        Box::pin(async move {
            let stored = match read_all_types(connection).await? {
                Ok(stored) => stored,
                Err(reason) => return Ok(Err(ReconcileError::Failed(reason))),
            };
            let objects = stored
                .into_iter()
                .map(|row| StoredObject { object: row.definition, owner: row.owner });
            Ok(Ok(objects.collect()))
        })
    }

    fn check_refusals<'a>(
        usage: Option<&'a ObjectUsageCheck<Self::Usage>>,
        stored: &'a [StoredObject<Self>],
        desired: &'a [Self],
        options: OwnershipOptions,
    ) -> BoxFuture<'a, Result<RefusalCheck<Self>, ReconcileError>> {
        Box::pin(async move {
            let mut uses = LedgerTypeUses::new();
            let Some(in_use) = usage else { return Ok(build_refusal(uses)) };
            for (kind, name) in find_usage_questions(stored, desired, options) {
                let (dry_run, to_come) = (in_use.dry_run, in_use.remaining_reconcilers.clone());
                let question =
                    LedgerTypeUsageQuery { kind, name, dry_run, remaining_integrations: to_come };
                if let Some(used) = in_use.usage.find_usage(&question).await? {
                    uses.insert((question.kind, question.name), used);
                }
            }
            Ok(build_refusal(uses))
        })
    }

    fn write_in_tx<'a>(
        connection: &'a mut PgConnection,
        writes: &'a PlannedObjectWrites<Self>,
        owner: ObjectOwner,
    ) -> BoxFuture<'a, store::Result<()>> {
        Box::pin(async move {
            for definition in &writes.upserts {
                put_type_in_tx(connection, definition, owner).await?;
            }
            for (kind, name) in &writes.deletes {
                delete_type_in_tx(connection, *kind, name).await?;
            }
            if !writes.plan.changes.is_empty() {
                notify_types_in_tx(connection).await?;
            }
            Ok(())
        })
    }
}
