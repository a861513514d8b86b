//! An integration whose type of arguments is forgotten.

use futures::future::BoxFuture;
use serde_json::Value as Json;

use crate::{Context, Integration, Plan, RunError, ShardConfig};

pub(super) trait Erased: Send + Sync {
    fn name(&self) -> &'static str;
    fn check(&self, arguments: &Json) -> Result<(), String>;
    fn desired_state(&self, context: &Context<'_>) -> Result<Option<Json>, RunError>;
    fn shard_config(&self) -> Option<ShardConfig>;
    fn stored_shards(&self) -> BoxFuture<'_, Result<Vec<String>, RunError>>;
    fn for_shard(&self, arguments: Json, shard: &str) -> Json;
    fn run<'a>(
        &'a self,
        context: &'a Context<'a>,
        arguments: Json,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<Plan, RunError>>;
}

impl<I: Integration> Erased for I {
    fn name(&self) -> &'static str {
        Integration::name(self)
    }

    fn check(&self, arguments: &Json) -> Result<(), String> {
        serde_json::from_value::<I::Arguments>(arguments.clone()).map(drop).map_err(|error| error.to_string())
    }

    fn desired_state(&self, context: &Context<'_>) -> Result<Option<Json>, RunError> {
        self.early_exit_desired_state(context)
    }

    fn shard_config(&self) -> Option<ShardConfig> {
        self.desired_state_shard_config()
    }

    fn stored_shards(&self) -> BoxFuture<'_, Result<Vec<String>, RunError>> {
        Integration::stored_shards(self)
    }

    fn for_shard(&self, arguments: Json, shard: &str) -> Json {
        Integration::for_shard(self, arguments, shard)
    }

    fn run<'a>(
        &'a self,
        context: &'a Context<'a>,
        arguments: Json,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<Plan, RunError>> {
        match serde_json::from_value(arguments) {
            Ok(arguments) => Integration::run(self, context, arguments, dry_run),
            Err(error) => Box::pin(std::future::ready(Err(RunError::Failed(error.to_string())))),
        }
    }
}
