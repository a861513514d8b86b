//! The reconciler over one kind of owned object.

use futures::future::BoxFuture;
use serde_json::Value as Json;
use sqlx::PgPool;

use super::transaction::read_stored;
use super::{ObjectUsageCheck, OwnedObject, OwnedObjectTransaction};
use crate::error::ReconcileError;
use crate::plan::ReconcilePlan;
use crate::reconciler::{DesiredShardConfig, ReconcileContext, Reconciler};
use crate::transaction::run_transaction;

/// Reconciler that reconciles the stored objects of one kind with the bundle.
pub struct OwnedObjectSet<T: OwnedObject> {
    /// Pool of the database that stores the objects.
    pub pool: PgPool,
    /// Usage lookup for objects that would change or be deleted.
    pub usage: T::Usage,
}

impl<T: OwnedObject> Reconciler for OwnedObjectSet<T> {
    type Arguments = T::Arguments;

    fn name(&self) -> &'static str {
        T::RECONCILER_NAME
    }

    fn run<'a>(
        &'a self,
        context: &'a ReconcileContext<'a>,
        arguments: T::Arguments,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<ReconcilePlan, ReconcileError>> {
        Box::pin(async move {
            let usage = ObjectUsageCheck {
                usage: self.usage.clone(),
                dry_run,
                remaining_reconcilers: context.remaining_reconcilers(),
            };
            let transaction = OwnedObjectTransaction {
                desired: T::find_desired(context)?,
                part: T::requested_shard(arguments),
                usage: Some(usage),
                options: context.ownership_options(),
            };
            if T::CHECKS_USAGE_FIRST {
                transaction.check_usage_first(&self.pool).await?;
            }
            let approval = context.approval_for_run(dry_run);
            Ok(run_transaction(&self.pool, T::TRANSACTION_NAME, transaction, approval).await?.0)
        })
    }

    fn early_exit_desired_state(
        &self,
        context: &ReconcileContext<'_>,
    ) -> Result<Option<Json>, ReconcileError> {
        Ok(Some(T::desired_state_json(&T::find_desired(context)?)))
    }

    fn desired_state_shard_config(&self) -> Option<DesiredShardConfig> {
        T::SHARD_CONFIG
    }

    fn stored_shards(&self) -> BoxFuture<'_, Result<Vec<String>, ReconcileError>> {
        Box::pin(async move {
            if T::SHARD_CONFIG.is_none() {
                return Ok(Vec::new());
            }
            let stored = read_stored::<T>(&self.pool).await?;
            Ok(stored.iter().filter_map(|held| held.object.shard()).map(str::to_owned).collect())
        })
    }
}
