//! Reconciler `partitions`: one transaction per shard.
//!
//! - Shape: advisory lock on the shard's name, read the missing months, plan, create.
//! - Audit: a shard's database has no audit trail. The entries are in the control database before the
//!   shard's transaction commits: without them nothing is created.
//! - Cost: shards run concurrently; a failed shard is reported and does not stop the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use audit::AuditActor;
use chrono::{DateTime, Utc};
use futures::future::{BoxFuture, join_all};
use ledger::partitions::{MONTH_FORMAT, create_missing_partitions, list_missing_partitions};
use reconcile::plan::PlanApproval;
use reconcile::{
    DesiredShardConfig, ReconcileContext, ReconcileError, ReconcilePlan, ReconcileTransaction,
    ReconcileTxResult, Reconciler,
};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use sqlx::{PgConnection, PgPool};
use tasks::schedule::{SCHEDULE_SCHEMA, TaskSchedule};

use crate::background::tasks::months_ahead;
use crate::reconcilers::audited::record_plan;
use crate::reconcilers::bundle::ShardSet;

/// Name of the reconciler in commands and locks.
pub const PARTITIONS_RECONCILER: &str = "partitions";

/// Creates the missing monthly partitions of the ledger.
pub struct PartitionReconciler {
    /// Control database, for the audit trail.
    pub pool: PgPool,
    /// Shards by name, opened on first use.
    pub shards: Arc<ShardSet>,
}

/// Arguments of a run (`--arg`).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionArguments {
    /// Limits the run to this shard.
    #[serde(default)]
    shard: Option<String>,
}

/// Number of months after the current one that need a partition.
fn desired_months_ahead(context: &ReconcileContext<'_>) -> Result<u32, ReconcileError> {
    let schedules: Vec<TaskSchedule> = context.query_documents(SCHEDULE_SCHEMA)?;
    Ok(months_ahead(&schedules))
}

impl Reconciler for PartitionReconciler {
    type Arguments = PartitionArguments;

    fn name(&self) -> &'static str {
        PARTITIONS_RECONCILER
    }

    fn run<'a>(
        &'a self,
        context: &'a ReconcileContext<'a>,
        arguments: PartitionArguments,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<ReconcilePlan, ReconcileError>> {
        Box::pin(async move {
            let ahead = desired_months_ahead(context)?;
            let approval = context.approval_for_run(dry_run);
            if let Some(shard) = &arguments.shard {
                return self.reconcile_shard(shard, ahead, approval).await;
            }
            // An unreachable shard must not block the others.
            let names = self.shards.names();
            let plans = join_all(
                names.iter().map(|name| self.reconcile_shard(name, ahead, approval.clone())),
            )
            .await;
            let mut combined_plan = ReconcilePlan::default();
            for (name, plan) in names.iter().zip(plans) {
                match plan {
                    Ok(plan) => combined_plan.merge(plan),
                    Err(error) => combined_plan.add_shard_failure(name, error.to_string()),
                }
            }
            Ok(combined_plan)
        })
    }

    fn early_exit_desired_state(
        &self,
        context: &ReconcileContext<'_>,
    ) -> Result<Option<Json>, ReconcileError> {
        let ahead = desired_months_ahead(context)?;
        // Shards without a map are known only to the control database. The bundle requires the same
        // months of every shard.
        if self.shards.names().is_empty() {
            return Ok(Some(json!({"ahead": ahead})));
        }
        let shards = self.shards.names().iter();
        let state: BTreeMap<&String, Json> =
            shards.map(|shard| (shard, json!({"shard": shard, "ahead": ahead}))).collect();
        Ok(Some(json!(state)))
    }

    fn desired_state_shard_config(&self) -> Option<DesiredShardConfig> {
        Some(DesiredShardConfig { parameter: "shard", selectors: &["$.*.shard"], review: |_| true })
    }

    fn stored_shards(&self) -> BoxFuture<'_, Result<Vec<String>, ReconcileError>> {
        let names = self.shards.names().to_vec();
        let known = match names.is_empty() {
            true => Err(ReconcileError::Failed(
                "the shards are known only to the control database".to_owned(),
            )),
            false => Ok(names),
        };
        Box::pin(std::future::ready(known))
    }
}

impl PartitionReconciler {
    /// `approval` is `None` in a dry run. An empty shard is skipped: the service that first uses it
    /// sets it up.
    async fn reconcile_shard(
        &self,
        name: &str,
        ahead: u32,
        approval: Option<PlanApproval>,
    ) -> Result<ReconcilePlan, ReconcileError> {
        let Some(shard) = self.shards.get_shard(name).await.map_err(ReconcileError::Failed)? else {
            return Ok(ReconcilePlan::default());
        };
        let run = PartitionRun {
            shard: name.to_owned(),
            months_ahead: ahead,
            control: self.pool.clone(),
            recorded: AtomicBool::new(false),
        };
        Ok(reconcile::run_transaction(&shard.pool, "reconcile_partitions", run, approval).await?.0)
    }
}

/// Transaction that reconciles one shard.
struct PartitionRun {
    shard: String,
    months_ahead: u32,
    control: PgPool,
    /// Whether an attempt at the transaction has recorded the changes.
    recorded: AtomicBool,
}

impl ReconcileTransaction for PartitionRun {
    /// First moments of the months to create.
    type PlannedWrites = Vec<DateTime<Utc>>;

    fn exclusive_names(&self) -> Vec<String> {
        vec![format!("{PARTITIONS_RECONCILER}/{}", self.shard)]
    }

    fn plan_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
    ) -> BoxFuture<'a, ReconcileTxResult<(ReconcilePlan, Vec<DateTime<Utc>>)>> {
        Box::pin(async move {
            let missing = list_missing_partitions(connection, self.months_ahead).await?;
            let mut plan = ReconcilePlan::default();
            let names: Vec<String> =
                missing.iter().map(|month| month.format(MONTH_FORMAT).to_string()).collect();
            for month in &names {
                plan.add_create(
                    "partition",
                    &format!("{}/{month}", self.shard),
                    &json!({"month": month}),
                );
            }
            plan.bind_target_part(&self.shard, &names);
            Ok(Ok((plan, missing)))
        })
    }

    fn write_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        missing: &'a Vec<DateTime<Utc>>,
    ) -> BoxFuture<'a, store::Result<()>> {
        Box::pin(async move {
            match missing.is_empty() {
                true => Ok(()),
                false => create_missing_partitions(connection, missing).await.map(drop),
            }
        })
    }

    fn record_in_tx<'a>(
        &'a self,
        _: &'a mut PgConnection,
        plan: &'a ReconcilePlan,
        actor: &'a AuditActor,
    ) -> BoxFuture<'a, store::Result<()>> {
        Box::pin(async move {
            if !self.recorded.load(Ordering::Relaxed) {
                record_plan(&self.control, plan, actor).await?;
                self.recorded.store(true, Ordering::Relaxed);
            }
            Ok(())
        })
    }
}
