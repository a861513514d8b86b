//! The platform's built-in integration, `platform`: account types, posting rules and action configs
//! from blocks of templates.
//!
//! Objects made by a block are owned by the configurator: bundles do not touch them, and blocks do
//! not touch objects of a bundle or of the API.

mod account_type;
mod action_config;
mod named;
mod posting_rule;

use std::sync::Arc;

use audit::{AuditAction, AuditActor, AuditDifference, AuditEntry, record_entry};
use configurator::BlockId;
use configurator::sdk::{IntegrationError, IntegrationHandlers};
use ledger::types::LedgerTypeUsage;
use reconcile::ObjectOwner;
use reconcile::plan::diff_fields;
use serde::Serialize;
use serde_json::{Value as Json, json};
use sqlx::{PgConnection, PgPool};

use account_type::SetAccountType;
use action_config::SetActionConfig;
use named::NamedObjectHandler;
use posting_rule::SetPostingRule;

/// Queue name without environment and suffix.
pub const PLATFORM_QUEUE: &str = "platform";

/// State returned by every task of the integration: an output for other blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlatformObject {
    /// Name of the created, changed or deleted object.
    pub name: String,
}

/// Handlers of all tasks of the integration.
pub fn platform_handlers(pool: &PgPool, usage: Arc<dyn LedgerTypeUsage>) -> IntegrationHandlers {
    let account_types = SetAccountType { pool: pool.clone(), usage };
    let posting_rules = SetPostingRule { pool: pool.clone() };
    let action_configs = SetActionConfig { pool: pool.clone() };
    IntegrationHandlers::default()
        .with_handler(NamedObjectHandler { pool: pool.clone(), handler: account_types })
        .with_handler(NamedObjectHandler { pool: pool.clone(), handler: posting_rules })
        .with_handler(NamedObjectHandler { pool: pool.clone(), handler: action_configs })
}

/// Transient errors are temporary, all others need an operator.
fn store_task_error(error: store::Error) -> IntegrationError {
    if error.is_temporary() {
        return IntegrationError::Temporary(error.to_string());
    }
    tracing::error!(%error, code = "INTERNAL_ERROR", "integration platform");
    IntegrationError::permanent(
        "INTERNAL_ERROR",
        json!({"reason": "the control database refused; see the log"}),
    )
}

/// Refusal: the object has another owner.
fn foreign_owner_error(what: &str, name: &str, owner: ObjectOwner) -> IntegrationError {
    let reason =
        format!("the {what} {name} belongs to {}: it is not changed from a template", owner.name());
    IntegrationError::permanent(
        "CONFLICT",
        json!({"name": name, "owner": owner.name(), "reason": reason}),
    )
}

/// The actor of what a block changes: its origin is the block.
fn block_actor(block_id: BlockId) -> AuditActor {
    AuditActor::of_service("configurator").with_origin(format!("block/{block_id}"))
}

/// Records the change of an object from `old` to `new`; `None`: there is none.
async fn record_object_in_tx(
    connection: &mut PgConnection,
    actor: &AuditActor,
    (kind, name): (&str, &str),
    (old, new): (Option<Json>, Option<Json>),
) -> store::Result<()> {
    let (old, new) = (old.unwrap_or_else(|| json!({})), new.unwrap_or_else(|| json!({})));
    let mut difference = AuditDifference::default();
    for change in diff_fields(&old, &new) {
        difference = difference.with_field(&change.field, change.before, change.after);
    }
    let entry = AuditEntry::new(AuditAction::ObjectSet, kind, name, &difference);
    record_entry(connection, actor, &entry).await
}

fn can_take_over(owner: ObjectOwner) -> bool {
    matches!(owner, ObjectOwner::Builtin | ObjectOwner::Configurator)
}
