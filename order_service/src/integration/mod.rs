//! The platform's own integration, `platform`: account types, posting rules and action configs, from blocks of templates.
//!
//! What a block has made belongs to the configurator: a bundle leaves it alone, and what belongs to a bundle or to the API
//! is not touched here.

mod account_type;
mod action_config;
mod named;
mod posting_rule;

use std::sync::Arc;

use configurator::sdk::{Handlers, TaskError};
use ledger::types::Usage;
use reconcile::Owner;
use serde::Serialize;
use serde_json::json;
use sqlx::PgPool;

use account_type::SetAccountType;
use action_config::SetActionConfig;
use named::ByName;
use posting_rule::SetPostingRule;

/// The queue's name, without environment and ending.
pub const QUEUE: &str = "platform";

/// What every task of the integration returns: an output for other blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Made {
    /// What was created, changed or deleted.
    pub name: String,
}

/// The handlers of the integration.
pub fn handlers(pool: &PgPool, usage: Arc<dyn Usage>) -> Handlers {
    let pool = || pool.clone();
    Handlers::default()
        .with(ByName { pool: pool(), handler: SetAccountType { pool: pool(), usage } })
        .with(ByName { pool: pool(), handler: SetPostingRule { pool: pool() } })
        .with(ByName { pool: pool(), handler: SetActionConfig { pool: pool() } })
}

/// Database trouble: the same may succeed later, or somebody must look.
fn failed(error: store::Error) -> TaskError {
    if error.is_temporary() {
        return TaskError::Temporary(error.to_string());
    }
    tracing::error!(%error, code = "INTERNAL_ERROR", "integration platform");
    TaskError::permanent("INTERNAL_ERROR", json!({"reason": "the control database refused; see the log"}))
}

/// What belongs to others is theirs.
fn foreign(what: &str, name: &str, owner: Owner) -> TaskError {
    let reason = format!("the {what} {name} belongs to {}: it is not changed from a template", owner.name());
    TaskError::permanent("CONFLICT", json!({"name": name, "owner": owner.name(), "reason": reason}))
}

fn yields(owner: Owner) -> bool {
    matches!(owner, Owner::Builtin | Owner::Configurator)
}
