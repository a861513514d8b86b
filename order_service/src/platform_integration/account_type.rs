//! `platform.set_account_type`: params are an account type as in its document.
//!
//! - Shape: one transaction. The usage check also runs before it, so that a refusal holds no locks.

use std::sync::Arc;

use audit::AuditActor;
use configurator::BlockId;
use configurator::sdk::{BlockAction, BlockRequest, IntegrationError, IntegrationHandler};
use ledger::types::{
    LEDGER_TYPES_RECONCILER, LedgerTypeDefinition, LedgerTypeKind, LedgerTypeObjection,
    LedgerTypeRow, LedgerTypeUsage, LedgerTypeUsageQuery, delete_type_in_tx, find_objections,
    notify_types_in_tx, put_type_in_tx, read_all_types,
};
use reconcile::{ObjectOwner, ReconcileError};
use serde_json::{Map, Value as Json, json};
use sqlx::{PgConnection, PgPool};

use super::{
    PlatformObject, block_actor, can_take_over, foreign_owner_error, record_object_in_tx,
    store_task_error,
};

const ACCOUNT_TYPE_LABEL: &str = "account type";

#[derive(Clone)]
pub(super) struct SetAccountType {
    pub(super) pool: PgPool,
    pub(super) usage: Arc<dyn LedgerTypeUsage>,
}

/// Desired change of one type.
struct AccountTypeChange {
    name: String,
    /// `None` deletes the type.
    definition: Option<LedgerTypeDefinition>,
    actor: AuditActor,
}

impl AccountTypeChange {
    fn from_params(
        action: BlockAction,
        block_id: BlockId,
        mut params: Map<String, Json>,
    ) -> Result<Self, IntegrationError> {
        params.remove("$schema");
        let name = params.get("name").and_then(Json::as_str).unwrap_or_default().to_owned();
        let actor = block_actor(block_id);
        if action == BlockAction::Delete {
            return Ok(Self { name, definition: None, actor });
        }
        let new = LedgerTypeKind::Account.parse_definition(Json::Object(params));
        let new = new.map_err(|error| IntegrationError::invalid("params", error.to_string()))?;
        if let Some(problem) = new.find_problems().first() {
            return Err(IntegrationError::invalid(
                format!("params.{}", problem.field),
                problem.reason.clone(),
            ));
        }
        Ok(Self { name, definition: Some(new), actor })
    }
}

impl IntegrationHandler for SetAccountType {
    const TASK_TYPE: &'static str = "set_account_type";
    type Params = Map<String, Json>;
    type State = PlatformObject;

    async fn handle(
        &self,
        request: BlockRequest<Self::Params>,
    ) -> Result<PlatformObject, IntegrationError> {
        let change =
            AccountTypeChange::from_params(request.action, request.block_id, request.params)?;
        let stored_types = store::run_statement(&self.pool, "look_at_types", |connection| {
            Box::pin(read_all_types(connection))
        });
        self.needs_change(&stored_types.await.map_err(store_task_error)?, &change).await?;
        let name = change.name.clone();
        let result = store::transaction("set_account_type", (self.clone(), change))
            .run(&self.pool, |connection, (handler, change)| {
                Box::pin(handler.apply_in_tx(connection, change))
            })
            .await;
        result.map_err(store_task_error)??;
        Ok(PlatformObject { name })
    }
}

impl SetAccountType {
    /// The outer error is retryable and rolls back; with the inner one nothing was written.
    async fn apply_in_tx(
        &self,
        connection: &mut PgConnection,
        change: &AccountTypeChange,
    ) -> store::Result<Result<(), IntegrationError>> {
        reconcile::exclude_other_runs_in_tx(connection, LEDGER_TYPES_RECONCILER).await?;
        let stored = read_all_types(connection).await?;
        match self.needs_change(&stored, change).await {
            Ok(true) => {}
            Ok(false) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        }
        match &change.definition {
            Some(new) => put_type_in_tx(connection, new, ObjectOwner::Configurator).await?,
            None => delete_type_in_tx(connection, LedgerTypeKind::Account, &change.name).await?,
        }
        notify_types_in_tx(connection).await?;
        let stored_types = stored.as_deref().unwrap_or_default();
        let old = find_account_type(stored_types, &change.name);
        let old = old.map(|old| old.definition.to_json());
        let sides = (old, change.definition.as_ref().map(LedgerTypeDefinition::to_json));
        let object = (LedgerTypeKind::Account.object_name(), change.name.as_str());
        record_object_in_tx(connection, &change.actor, object, sides).await?;
        Ok(Ok(()))
    }

    /// Whether the stored type differs; an error if the change is not allowed.
    async fn needs_change(
        &self,
        stored_types: &Result<Vec<LedgerTypeRow>, String>,
        change: &AccountTypeChange,
    ) -> Result<bool, IntegrationError> {
        let stored = stored_types.as_ref().map_err(|reason| {
            IntegrationError::permanent("CONSISTENCY_ERROR", json!({"reason": reason}))
        })?;
        let Some(stored_type) = find_account_type(stored, &change.name) else {
            return Ok(change.definition.is_some());
        };
        if change.definition.as_ref() == Some(&stored_type.definition)
            && stored_type.owner == ObjectOwner::Configurator
        {
            return Ok(false);
        }
        if !can_take_over(stored_type.owner) {
            return Err(foreign_owner_error(ACCOUNT_TYPE_LABEL, &change.name, stored_type.owner));
        }
        self.check_objections(stored_type, change).await?;
        Ok(true)
    }

    async fn check_objections(
        &self,
        stored_type: &LedgerTypeRow,
        change: &AccountTypeChange,
    ) -> Result<(), IntegrationError> {
        let objections = find_objections(&stored_type.definition, change.definition.as_ref());
        let mut while_used = Vec::new();
        for objection in objections {
            match objection {
                LedgerTypeObjection::Always(reason) => {
                    return Err(type_conflict_error(&change.name, &reason));
                }
                LedgerTypeObjection::WhileUsed(reason) => while_used.push(reason),
            }
        }
        if while_used.is_empty() {
            return Ok(());
        }
        let question = LedgerTypeUsageQuery {
            kind: LedgerTypeKind::Account,
            name: change.name.clone(),
            dry_run: false,
            remaining_integrations: Vec::new(),
        };
        match self.usage.find_usage(&question).await {
            Ok(None) => Ok(()),
            Ok(Some(used)) => {
                let reason = format!("it is in use ({used}): {}", while_used.join("; "));
                Err(type_conflict_error(&change.name, &reason))
            }
            Err(ReconcileError::Store(error)) => Err(store_task_error(error)),
            Err(error) => Err(IntegrationError::Temporary(error.to_string())),
        }
    }
}

fn find_account_type<'s>(stored: &'s [LedgerTypeRow], name: &str) -> Option<&'s LedgerTypeRow> {
    stored.iter().find(|stored| {
        stored.definition.kind() == LedgerTypeKind::Account && stored.definition.name() == name
    })
}

fn type_conflict_error(name: &str, reason: &str) -> IntegrationError {
    IntegrationError::permanent("CONFLICT", json!({"name": name, "reason": reason}))
}
