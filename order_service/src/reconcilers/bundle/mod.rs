//! Configuration bundle of this platform: its checks, its reconcilers, and the initial bundle of a
//! new database.

pub mod http;
mod initial;
mod shards;
mod usage;

use std::sync::Arc;

use events::configs::{ACTION_CONFIGS_RECONCILER, ActionConfigReconciler};
use ledger::types::{LEDGER_TYPES_RECONCILER, LedgerTypeReconciler, LedgerTypeUsage, check_types};
use reconcile::{Bundle, BundleCheck, BundleDiagnostic, ReconcileRuntime};
use sqlx::PgPool;
use tasks::schedule::{SCHEDULES_RECONCILER, ScheduleReconciler};

pub use initial::{
    InitialBundleError, apply_initial_bundle, ensure_builtin_bundle, ensure_initial_bundle,
};
pub use shards::{ShardOpener, ShardSet};
pub use usage::TypeUsageFinder;

use crate::background::tasks::{check_action_configs, check_schedules};
use crate::orders::postings::{POSTINGS_RECONCILER, PostingRuleReconciler, check_posting_rules};
use crate::reconcilers::partitions::{PARTITIONS_RECONCILER, PartitionReconciler};
use crate::reconcilers::queues::{
    EnvQueues, QUEUES_RECONCILER, QueueReconciler, build_env_queues, check_queues,
};
use crate::settings::QueueEngine;
use crate::settings::database_connections::NESTED_DATABASE_CONNECTION_COUNT;

/// Checks that a JSON schema cannot express.
const BUNDLE_CHECKS: [BundleCheck; 5] =
    [check_types, check_posting_rules, check_schedules, check_action_configs, check_queues];

/// All reconcilers, in run order: posting rules refer to ledger types.
const INTEGRATION_NAMES: [&str; 6] = [
    LEDGER_TYPES_RECONCILER,
    POSTINGS_RECONCILER,
    SCHEDULES_RECONCILER,
    ACTION_CONFIGS_RECONCILER,
    PARTITIONS_RECONCILER,
    QUEUES_RECONCILER,
];

/// Targets of the reconcilers.
#[derive(Clone)]
pub struct ReconcileTargets {
    /// Pool of the control database.
    pub pool: PgPool,
    /// Second pool of the control database, for queries made while a connection of `pool` is held.
    pub nested_pool: PgPool,
    /// Ledger shards by name, opened on first use.
    pub shards: Arc<ShardSet>,
    /// FIFO queues of each environment.
    pub queues: Arc<dyn EnvQueues>,
}

impl ReconcileTargets {
    /// Targets with all FIFO queues in the control database.
    pub fn new(pool: PgPool, shards: ShardSet) -> Self {
        let nested_pool = store::reserve_pool(&pool, "within", NESTED_DATABASE_CONNECTION_COUNT);
        Self { queues: Arc::new(pool.clone()), pool, nested_pool, shards: Arc::new(shards) }
    }

    /// Replaces the queues by those of `engine`.
    pub fn with_queues(self, engine: &QueueEngine) -> Self {
        Self { queues: build_env_queues(engine, &self.pool), ..self }
    }
}

/// Runtime with all reconcilers and checks.
pub fn reconcile_runtime(targets: &ReconcileTargets) -> ReconcileRuntime {
    let ReconcileTargets { pool, nested_pool, shards, queues } = targets.clone();
    let usage: Arc<dyn LedgerTypeUsage> =
        Arc::new(TypeUsageFinder::new(nested_pool.clone(), shards.clone()));
    ReconcileRuntime::new(BUNDLE_CHECKS.to_vec())
        .with_reconciler(LedgerTypeReconciler { pool: pool.clone(), usage })
        .with_reconciler(PostingRuleReconciler { pool: pool.clone() })
        .with_reconciler(ScheduleReconciler { pool: pool.clone(), usage: () })
        .with_reconciler(ActionConfigReconciler { pool: pool.clone(), usage: () })
        .with_reconciler(PartitionReconciler { pool: nested_pool, shards })
        .with_reconciler(QueueReconciler { pool, queues })
}

/// All problems of a bundle, by schema and by check.
pub fn find_bundle_problems(bundle: &Bundle) -> Vec<BundleDiagnostic> {
    reconcile::find_bundle_problems(bundle, &BUNDLE_CHECKS, &INTEGRATION_NAMES)
}
