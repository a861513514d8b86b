//! Stored types in the control database as an owned-object table for the reconciler.

use std::sync::Arc;

use futures::future::BoxFuture;
use reconcile::owned::{
    OwnedObject, OwnedObjectTable, PlannedObjectWrites, RefusalCheck, StoredObject,
};
use reconcile::{ObjectOwner, ReconcileError, ReconcileTxResult};
use serde_json::Value as Json;
use sqlx::PgConnection;
use store::Result;

use super::integration::{LEDGER_TYPES_INTEGRATION, LedgerTypeUsage, LedgerTypeUsageQuery};
use super::plan::{LedgerTypeUses, build_refusal, find_usage_questions};
use super::{
    LedgerTypeDefinition, LedgerTypeKind, LedgerTypeRow, OwnershipOptions, delete_type_in_tx,
    notify_types_in_tx, put_type_in_tx, read_all_types,
};

/// The `ledger_types` table: all types, or those with one name.
pub struct LedgerTypeKeeper {
    /// Restricts the table to types of this name.
    pub(super) type_name: Option<String>,
    /// Usage lookup; `None` means that no type is in use.
    pub(super) usage_check: Option<LedgerTypeUsageCheck>,
}

/// Usage lookup with the parameters of one reconcile run.
pub(super) struct LedgerTypeUsageCheck {
    pub(super) usage: Arc<dyn LedgerTypeUsage>,
    pub(super) dry_run: bool,
    pub(super) remaining_integrations: Vec<&'static str>,
}

impl OwnedObject for LedgerTypeDefinition {
    type Id = (LedgerTypeKind, String);

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
}

impl StoredObject for LedgerTypeRow {
    type Object = LedgerTypeDefinition;

    fn object(&self) -> &LedgerTypeDefinition {
        &self.definition
    }

    fn owner(&self) -> ObjectOwner {
        self.owner
    }
}

impl LedgerTypeKeeper {
    fn is_selected(&self, definition: &LedgerTypeDefinition) -> bool {
        self.type_name.as_deref().is_none_or(|only| LedgerTypeDefinition::name(definition) == only)
    }
}

impl OwnedObjectTable for LedgerTypeKeeper {
    type StoredObject = LedgerTypeRow;
    const RECONCILER_NAME: &'static str = LEDGER_TYPES_INTEGRATION;

    fn read_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
    ) -> BoxFuture<'a, ReconcileTxResult<Vec<LedgerTypeRow>>> {
        Box::pin(
            async move { Ok(read_all_types(connection).await?.map_err(ReconcileError::Failed)) },
        )
    }

    fn retain_part(
        &self,
        stored: &mut Vec<LedgerTypeRow>,
        wanted: &mut Vec<LedgerTypeDefinition>,
        _: OwnershipOptions,
    ) {
        stored.retain(|stored| self.is_selected(&stored.definition));
        wanted.retain(|definition| self.is_selected(definition));
    }

    fn check_refusals<'a>(
        &'a self,
        stored: &'a [LedgerTypeRow],
        wanted: &'a [LedgerTypeDefinition],
        terms: OwnershipOptions,
    ) -> BoxFuture<'a, std::result::Result<RefusalCheck<LedgerTypeDefinition>, ReconcileError>>
    {
        Box::pin(async move {
            let Some(in_use) = &self.usage_check else {
                return Ok(build_refusal(LedgerTypeUses::new()));
            };
            let mut uses = LedgerTypeUses::new();
            for (kind, name) in find_usage_questions(stored, wanted, terms) {
                let (dry_run, to_come) = (in_use.dry_run, in_use.remaining_integrations.clone());
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
        &'a self,
        connection: &'a mut PgConnection,
        steps: &'a PlannedObjectWrites<LedgerTypeDefinition>,
        owner: ObjectOwner,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            for definition in &steps.upserts {
                put_type_in_tx(connection, definition, owner).await?;
            }
            for (kind, name) in &steps.deletes {
                delete_type_in_tx(connection, *kind, name).await?;
            }
            if !steps.plan.changes.is_empty() {
                notify_types_in_tx(connection).await?;
            }
            Ok(())
        })
    }
}
