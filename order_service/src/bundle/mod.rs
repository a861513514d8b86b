//! The configuration bundle of this platform: which checks and integrations there are, and the bundle that a new
//! database begins with.

pub mod http;
mod initial;
mod shards;
mod usage;

use std::sync::Arc;

use events::configs::{ACTION_CONFIGS_INTEGRATION, ActionConfigReconciler};
use ledger::types::{LEDGER_TYPES_INTEGRATION, LedgerTypeReconciler, LedgerTypeUsage, check_types};
use reconcile::{Bundle, BundleCheck, BundleDiagnostic, ReconcileRuntime};
use sqlx::PgPool;
use tasks::schedule::{SCHEDULES_INTEGRATION, ScheduleReconciler};

pub use initial::{
    InitialBundleError, apply_initial_bundle, ensure_builtin_bundle, ensure_initial_bundle,
};
pub use shards::{ShardOpener, ShardSet};
pub use usage::TypeUsageFinder;

use crate::partitions::{PARTITIONS_INTEGRATION, PartitionReconciler};
use crate::postings::{POSTINGS_INTEGRATION, PostingRuleReconciler, check_posting_rules};
use crate::queues::{
    EnvQueues, QUEUES_INTEGRATION, QueueReconciler, build_env_queues, check_queues,
};
use crate::serve::connections::NESTED_CONNECTION_COUNT;
use crate::settings::QueueEngine;
use crate::tasks::{check_action_configs, check_schedules};

/// What documents must keep to that no schema can say.
const BUNDLE_CHECKS: [BundleCheck; 5] =
    [check_types, check_posting_rules, check_schedules, check_action_configs, check_queues];

/// All integrations, in the order in which they run: rules refer to types.
const INTEGRATION_NAMES: [&str; 6] = [
    LEDGER_TYPES_INTEGRATION,
    POSTINGS_INTEGRATION,
    SCHEDULES_INTEGRATION,
    ACTION_CONFIGS_INTEGRATION,
    PARTITIONS_INTEGRATION,
    QUEUES_INTEGRATION,
];

/// What the integrations bring to the desired state.
#[derive(Clone)]
pub struct ReconcileTargets {
    /// The control database.
    pub pool: PgPool,
    /// Connections of it for what is asked while one of `pool` is held.
    pub nested_pool: PgPool,
    /// The ledger's shards.
    pub shards: Arc<ShardSet>,
    /// The queues of each environment.
    pub queues: Arc<dyn EnvQueues>,
}

impl ReconcileTargets {
    /// With queues in the control database.
    pub fn new(pool: PgPool, shards: ShardSet) -> Self {
        let nested_pool = store::reserve_pool(&pool, "within", NESTED_CONNECTION_COUNT);
        Self { queues: Arc::new(pool.clone()), pool, nested_pool, shards: Arc::new(shards) }
    }

    /// With queues where these settings say they are.
    pub fn with_queues(self, engine: &QueueEngine) -> Self {
        Self { queues: build_env_queues(engine, &self.pool), ..self }
    }
}

/// All integrations and checks.
pub fn reconcile_runtime(targets: &ReconcileTargets) -> ReconcileRuntime {
    let ReconcileTargets { pool, nested_pool, shards, queues } = targets.clone();
    let usage: Arc<dyn LedgerTypeUsage> =
        Arc::new(TypeUsageFinder::new(nested_pool, shards.clone()));
    ReconcileRuntime::new(BUNDLE_CHECKS.to_vec())
        .with_reconciler(LedgerTypeReconciler { pool: pool.clone(), usage })
        .with_reconciler(PostingRuleReconciler { pool: pool.clone() })
        .with_reconciler(ScheduleReconciler { pool: pool.clone() })
        .with_reconciler(ActionConfigReconciler { pool: pool.clone() })
        .with_reconciler(PartitionReconciler { shards })
        .with_reconciler(QueueReconciler { pool, queues })
}

/// Everything that is wrong with a bundle.
pub fn find_bundle_problems(bundle: &Bundle) -> Vec<BundleDiagnostic> {
    reconcile::find_bundle_problems(bundle, &BUNDLE_CHECKS, &INTEGRATION_NAMES)
}
