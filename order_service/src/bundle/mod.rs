//! The configuration bundle of this platform: which checks and integrations there are, and the bundle that a new
//! database begins with.

mod first;
pub mod http;
mod shards;
mod usage;

use std::sync::Arc;

use events::configs::{ACTION_CONFIGS, ActionConfigs};
use ledger::types::{LEDGER_TYPES, LedgerTypes, Usage, check_types};
use reconcile::{Bundle, Check, Diagnostic, Runtime};
use sqlx::PgPool;
use tasks::schedule::{SCHEDULES, Schedules};

pub use first::{FirstError, begin, ensure_builtin, ensure_first};
pub use shards::{OpenShard, ShardSet};
pub use usage::InUse;

use crate::partitions::{PARTITIONS, Partitions};
use crate::postings::{POSTINGS, PostingRules, check_rules};
use crate::queues::{EnvQueues, QUEUES, Queues, check_queues, configured};
use crate::serve::connections::WITHIN;
use crate::settings::QueueEngine;
use crate::tasks::{check_action_configs, check_schedules};

/// What documents must keep to that no schema can say.
const CHECKS: [Check; 5] = [check_types, check_rules, check_schedules, check_action_configs, check_queues];

/// All integrations, in the order in which they run: rules refer to types.
const INTEGRATIONS: [&str; 6] = [LEDGER_TYPES, POSTINGS, SCHEDULES, ACTION_CONFIGS, PARTITIONS, QUEUES];

/// What the integrations bring to the desired state.
#[derive(Clone)]
pub struct Targets {
    /// The control database.
    pub pool: PgPool,
    /// Connections of it for what is asked while one of `pool` is held.
    pub within: PgPool,
    /// The ledger's shards.
    pub shards: Arc<ShardSet>,
    /// The queues of each environment.
    pub queues: Arc<dyn EnvQueues>,
}

impl Targets {
    /// With queues in the control database.
    pub fn new(pool: PgPool, shards: ShardSet) -> Self {
        let within = store::reserve(&pool, "within", WITHIN);
        Self { queues: Arc::new(pool.clone()), pool, within, shards: Arc::new(shards) }
    }

    /// With queues where these settings say they are.
    pub fn with_queues(self, engine: &QueueEngine) -> Self {
        Self { queues: configured(engine, &self.pool), ..self }
    }
}

/// All integrations and checks.
pub fn runtime(targets: &Targets) -> Runtime {
    let Targets { pool, within, shards, queues } = targets.clone();
    let usage: Arc<dyn Usage> = Arc::new(InUse::new(within, shards.clone()));
    Runtime::new(CHECKS.to_vec())
        .with(LedgerTypes { pool: pool.clone(), usage })
        .with(PostingRules { pool: pool.clone() })
        .with(Schedules { pool: pool.clone() })
        .with(ActionConfigs { pool: pool.clone() })
        .with(Partitions { shards })
        .with(Queues { pool, queues })
}

/// Everything that is wrong with a bundle.
pub fn problems(bundle: &Bundle) -> Vec<Diagnostic> {
    reconcile::problems(bundle, &CHECKS, &INTEGRATIONS)
}
