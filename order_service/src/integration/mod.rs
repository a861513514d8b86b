//! The platform's own integration, `platform`: account types, posting rules and action configs, from blocks of templates.
//!
//! What a block has made belongs to the configurator: a bundle leaves it alone, and what belongs to a bundle or to the API
//! is not touched here.

mod account_type;
mod action_config;
mod named;
mod posting_rule;

use std::sync::Arc;

use configurator::sdk::{IntegrationError, IntegrationHandlers};
use ledger::types::LedgerTypeUsage;
use reconcile::ObjectOwner;
use serde::Serialize;
use serde_json::json;
use sqlx::PgPool;

use account_type::SetAccountType;
use action_config::SetActionConfig;
use named::NamedObjectHandler;
use posting_rule::SetPostingRule;

/// The queue's name, without environment and ending.
pub const PLATFORM_QUEUE: &str = "platform";

/// What every task of the integration returns: an output for other blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlatformObject {
    /// What was created, changed or deleted.
    pub name: String,
}

/// The handlers of the integration.
pub fn platform_handlers(pool: &PgPool, usage: Arc<dyn LedgerTypeUsage>) -> IntegrationHandlers {
    let pool = || pool.clone();
    IntegrationHandlers::default()
        .with_handler(NamedObjectHandler {
            pool: pool(),
            handler: SetAccountType { pool: pool(), usage },
        })
        .with_handler(NamedObjectHandler { pool: pool(), handler: SetPostingRule { pool: pool() } })
        .with_handler(NamedObjectHandler {
            pool: pool(),
            handler: SetActionConfig { pool: pool() },
        })
}

/// Database trouble: the same may succeed later, or somebody must look.
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

/// What belongs to others is theirs.
fn foreign_owner_error(what: &str, name: &str, owner: ObjectOwner) -> IntegrationError {
    let reason =
        format!("the {what} {name} belongs to {}: it is not changed from a template", owner.name());
    IntegrationError::permanent(
        "CONFLICT",
        json!({"name": name, "owner": owner.name(), "reason": reason}),
    )
}

fn can_take_over(owner: ObjectOwner) -> bool {
    matches!(owner, ObjectOwner::Builtin | ObjectOwner::Configurator)
}
