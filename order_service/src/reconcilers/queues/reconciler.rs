//! Reconciler `queues`: creates the bundle's FIFO queues in Postgres or SQS, per environment.
//!
//! - Promise: creating a queue is idempotent, so the next run completes one that was killed.
//! - Audit: entries are in the control database before the first queue is made.
//! - Lock order: one advisory lock in the control database per environment excludes concurrent real
//!   runs.

use std::sync::Arc;

use futures::future::{BoxFuture, join_all};
use queue::fifo::{FifoCatalogue, FifoError, FifoQueueOptions};
use reconcile::plan::PlanApproval;
use reconcile::{DesiredShardConfig, ReconcileContext, ReconcileError, ReconcilePlan, Reconciler};
use serde::Deserialize;
use serde_json::Value as Json;
use sqlx::PgPool;

use super::definition::{QUEUE_SCHEMA, QueueFile, desired_queue_state, queues_of_env};
use super::plan::plan_queues;
use super::{ENV_NAMES, EnvQueues};
use crate::reconcilers::audited::record_plan;

/// Name of the reconciler in commands and locks.
pub const QUEUES_RECONCILER: &str = "queues";

/// Creates and updates the queues.
pub struct QueueReconciler {
    /// Control database, for the advisory locks and the audit trail.
    pub pool: PgPool,
    /// Catalogues of the environments.
    pub queues: Arc<dyn EnvQueues>,
}

/// Arguments of a run (`--arg`).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueArguments {
    /// Limits the run to this environment.
    #[serde(default)]
    env: Option<String>,
}

impl Reconciler for QueueReconciler {
    type Arguments = QueueArguments;

    fn name(&self) -> &'static str {
        QUEUES_RECONCILER
    }

    fn run<'a>(
        &'a self,
        context: &'a ReconcileContext<'a>,
        arguments: QueueArguments,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<ReconcilePlan, ReconcileError>> {
        Box::pin(async move {
            let files: Vec<QueueFile> = context.query_documents(QUEUE_SCHEMA)?;
            let approval = context.approval_for_run(dry_run);
            if let Some(env) = &arguments.env {
                return self.reconcile_env(&files, env, approval).await;
            }
            // An unreachable environment must not block the others.
            let mut combined_plan = ReconcilePlan::default();
            let plans =
                join_all(ENV_NAMES.map(|env| self.reconcile_env(&files, env, approval.clone())))
                    .await;
            for (env, plan) in ENV_NAMES.into_iter().zip(plans) {
                match plan {
                    Ok(plan) => combined_plan.merge(plan),
                    Err(error) => combined_plan.add_shard_failure(env, error.to_string()),
                }
            }
            Ok(combined_plan)
        })
    }

    fn early_exit_desired_state(
        &self,
        context: &ReconcileContext<'_>,
    ) -> Result<Option<Json>, ReconcileError> {
        Ok(Some(desired_queue_state(&context.query_documents::<QueueFile>(QUEUE_SCHEMA)?)))
    }

    fn desired_state_shard_config(&self) -> Option<DesiredShardConfig> {
        Some(DesiredShardConfig { parameter: "env", selectors: &["$.*.env"], review: |_| true })
    }
}

impl QueueReconciler {
    /// `approval` is `None` in a dry run.
    async fn reconcile_env(
        &self,
        files: &[QueueFile],
        env: &str,
        approval: Option<PlanApproval>,
    ) -> Result<ReconcilePlan, ReconcileError> {
        let desired_queues = queues_of_env(files, env);
        if desired_queues.is_empty() {
            return Ok(ReconcilePlan::default());
        }
        let Some(queues) = self.queues.catalogue_of(env).await.map_err(ReconcileError::Failed)?
        else {
            return Ok(ReconcilePlan::default());
        };
        let reconciling = reconcile_queues(
            self.pool.clone(),
            queues,
            env.to_owned(),
            desired_queues,
            approval.clone(),
        );
        match approval {
            None => reconciling.await,
            Some(_) => {
                reconcile::run_exclusively(
                    &self.pool,
                    &format!("{QUEUES_RECONCILER}/{env}"),
                    reconcile::MAX_EXCLUSIVE_WORK,
                    reconciling,
                )
                .await?
            }
        }
    }
}

async fn reconcile_queues(
    pool: PgPool,
    queues: Arc<dyn FifoCatalogue>,
    env: String,
    desired_queues: Vec<(String, FifoQueueOptions)>,
    approval: Option<PlanApproval>,
) -> Result<ReconcilePlan, ReconcileError> {
    let names: Vec<String> = desired_queues.iter().map(|(name, _)| name.clone()).collect();
    let stored_queues = queues.find_queues(&names).await.map_err(fifo_reconcile_error)?;
    let (plan, ensure) = plan_queues(&env, &stored_queues, &desired_queues);
    if let Some(approval) = approval {
        approval.check(&plan)?;
        record_plan(&pool, &plan, approval.actor()).await?;
        for (name, options) in ensure {
            store::fail_point("reconcile_planned");
            queues.ensure_queue(&name, options).await.map_err(fifo_reconcile_error)?;
            store::fail_point("reconcile_applied");
        }
    }
    Ok(plan)
}

fn fifo_reconcile_error(error: FifoError) -> ReconcileError {
    ReconcileError::Failed(error.to_string())
}
