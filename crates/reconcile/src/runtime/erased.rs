//! Type erasure for [`Reconciler`]: arguments are passed as JSON.

use futures::future::BoxFuture;
use serde_json::Value as Json;

use crate::error::ReconcileError;
use crate::plan::ReconcilePlan;
use crate::reconciler::{DesiredShardConfig, ReconcileContext, Reconciler};

pub(super) trait ErasedReconciler: Send + Sync {
    fn name(&self) -> &'static str;
    fn check_arguments(&self, arguments: &Json) -> Result<(), String>;
    fn desired_state(&self, context: &ReconcileContext<'_>)
    -> Result<Option<Json>, ReconcileError>;
    fn shard_config(&self) -> Option<DesiredShardConfig>;
    fn stored_shards(&self) -> BoxFuture<'_, Result<Vec<String>, ReconcileError>>;
    fn arguments_for_shard(&self, arguments: Json, shard: &str) -> Json;
    fn run<'a>(
        &'a self,
        context: &'a ReconcileContext<'a>,
        arguments: Json,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<ReconcilePlan, ReconcileError>>;
}

impl<I: Reconciler> ErasedReconciler for I {
    fn name(&self) -> &'static str {
        Reconciler::name(self)
    }

    fn check_arguments(&self, arguments: &Json) -> Result<(), String> {
        serde_json::from_value::<I::Arguments>(arguments.clone())
            .map(drop)
            .map_err(|error| error.to_string())
    }

    fn desired_state(
        &self,
        context: &ReconcileContext<'_>,
    ) -> Result<Option<Json>, ReconcileError> {
        self.early_exit_desired_state(context)
    }

    fn shard_config(&self) -> Option<DesiredShardConfig> {
        self.desired_state_shard_config()
    }

    fn stored_shards(&self) -> BoxFuture<'_, Result<Vec<String>, ReconcileError>> {
        Reconciler::stored_shards(self)
    }

    fn arguments_for_shard(&self, arguments: Json, shard: &str) -> Json {
        Reconciler::arguments_for_shard(self, arguments, shard)
    }

    fn run<'a>(
        &'a self,
        context: &'a ReconcileContext<'a>,
        arguments: Json,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<ReconcilePlan, ReconcileError>> {
        match serde_json::from_value(arguments) {
            Ok(arguments) => Reconciler::run(self, context, arguments, dry_run),
            Err(error) => {
                Box::pin(std::future::ready(Err(ReconcileError::Failed(error.to_string()))))
            }
        }
    }
}
