//! The integration `queues`: the bundle's queues, into Postgres or SQS, environment by environment.
//!
//! Making a queue is safe to repeat, so a run that was killed is carried on by the next one. A lock in the control
//! database keeps real runs of one environment apart.

use std::sync::Arc;

use futures::future::{BoxFuture, join_all};
use queue::fifo::{FifoCatalogue, FifoError, QueueTerms};
use reconcile::plan::Approval;
use reconcile::{Context, Integration, Plan, RunError, ShardConfig};
use serde::Deserialize;
use serde_json::Value as Json;
use sqlx::PgPool;

use super::definition::{QUEUE_SCHEMA, QueueFile, desired_state, of_env};
use super::plan::plan;
use super::{ENVS, EnvQueues};

/// The integration's name.
pub const QUEUES: &str = "queues";

/// Makes the queues.
pub struct Queues {
    /// The control database: keeps runs apart.
    pub pool: PgPool,
    /// Where the queues are.
    pub queues: Arc<dyn EnvQueues>,
}

/// How it is run.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Only the queues of this environment.
    #[serde(default)]
    env: Option<String>,
}

impl Integration for Queues {
    type Arguments = Arguments;

    fn name(&self) -> &'static str {
        QUEUES
    }

    fn run<'a>(
        &'a self,
        context: &'a Context<'a>,
        arguments: Arguments,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<Plan, RunError>> {
        Box::pin(async move {
            let files: Vec<QueueFile> = context.query(QUEUE_SCHEMA)?;
            let approval = context.approval_of(dry_run);
            if let Some(env) = &arguments.env {
                return self.env(&files, env, approval).await;
            }
            // One environment that is away keeps no other from its queues.
            let mut whole = Plan::default();
            let all = join_all(ENVS.map(|env| self.env(&files, env, approval.clone()))).await;
            for (env, plan) in ENVS.into_iter().zip(all) {
                match plan {
                    Ok(plan) => whole.join(plan),
                    Err(error) => whole.fail_shard(env, error.to_string()),
                }
            }
            Ok(whole)
        })
    }

    fn early_exit_desired_state(&self, context: &Context<'_>) -> Result<Option<Json>, RunError> {
        Ok(Some(desired_state(&context.query::<QueueFile>(QUEUE_SCHEMA)?)))
    }

    fn desired_state_shard_config(&self) -> Option<ShardConfig> {
        Some(ShardConfig { parameter: "env", selectors: &["$.*.env"], review: |_| true })
    }
}

impl Queues {
    /// A real run has an approval.
    async fn env(
        &self,
        files: &[QueueFile],
        env: &str,
        approval: Option<Approval>,
    ) -> Result<Plan, RunError> {
        let wanted = of_env(files, env);
        if wanted.is_empty() {
            return Ok(Plan::default());
        }
        let Some(queues) = self.queues.of(env).await.map_err(RunError::Failed)? else {
            return Ok(Plan::default());
        };
        let work = reach(queues, env.to_owned(), wanted, approval.clone());
        match approval {
            None => work.await,
            Some(_) => reconcile::excluding_others(&self.pool, &format!("{QUEUES}/{env}"), work).await?,
        }
    }
}

async fn reach(
    queues: Arc<dyn FifoCatalogue>,
    env: String,
    wanted: Vec<(String, QueueTerms)>,
    approval: Option<Approval>,
) -> Result<Plan, RunError> {
    let failed = |error: FifoError| RunError::Failed(error.to_string());
    let names: Vec<String> = wanted.iter().map(|(name, _)| name.clone()).collect();
    let there = queues.look(&names).await.map_err(failed)?;
    let (plan, ensure) = plan(&env, &there, &wanted);
    if let Some(approval) = approval {
        approval.check(&plan)?;
        for (name, terms) in ensure {
            store::fail_point("reconcile_planned");
            queues.ensure(&name, terms).await.map_err(failed)?;
            store::fail_point("reconcile_applied");
        }
    }
    Ok(plan)
}
