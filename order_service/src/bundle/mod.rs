//! The configuration bundle of this platform: which checks and integrations there are, and the bundle that a new
//! database begins with.

mod first;
mod usage;

use std::sync::Arc;

use events::configs::{ACTION_CONFIGS, ActionConfigs};
use ledger::types::{LEDGER_TYPES, LedgerTypes, Usage, check_types};
use reconcile::{Bundle, Check, Diagnostic, Runtime};
use sqlx::PgPool;

pub use first::{FirstError, ensure_builtin, ensure_first};
pub use usage::{InUse, Shards};

use tasks::schedule::{SCHEDULES, Schedules};

use crate::postings::{POSTINGS, PostingRules, check_rules};
use crate::tasks::{check_action_configs, check_schedules};

/// What documents must keep to that no schema can say.
const CHECKS: [Check; 4] = [check_types, check_rules, check_schedules, check_action_configs];

/// All integrations, in the order in which they run: rules refer to types.
const INTEGRATIONS: [&str; 4] = [LEDGER_TYPES, POSTINGS, SCHEDULES, ACTION_CONFIGS];

/// All integrations and checks.
pub fn runtime(pool: &PgPool, usage: Arc<dyn Usage>) -> Runtime {
    Runtime::new(CHECKS.to_vec())
        .with(LedgerTypes { pool: pool.clone(), usage })
        .with(PostingRules { pool: pool.clone() })
        .with(Schedules { pool: pool.clone() })
        .with(ActionConfigs { pool: pool.clone() })
}

/// Everything that is wrong with a bundle.
pub fn problems(bundle: &Bundle) -> Vec<Diagnostic> {
    reconcile::problems(bundle, &CHECKS, &INTEGRATIONS)
}
