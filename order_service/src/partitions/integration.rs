//! Each shard is one transaction on its database: others out, read, plan, make.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::{BoxFuture, join_all};
use ledger::partitions::{MONTH_FORMAT, make_missing_in_tx, missing_in_tx};
use reconcile::plan::Approval;
use reconcile::{Context, Integration, Plan, RunError, ShardConfig};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use sqlx::PgConnection;
use tasks::schedule::{SCHEDULE_SCHEMA, Scheduled};

use crate::bundle::ShardSet;
use crate::tasks::months_ahead;

/// The integration's name.
pub const PARTITIONS: &str = "partitions";

/// Makes the months.
pub struct Partitions {
    /// The shards.
    pub shards: Arc<ShardSet>,
}

/// How it is run.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arguments {
    /// Only the months of this shard.
    #[serde(default)]
    shard: Option<String>,
}

/// Months after the present one that are to have partitions.
fn ahead(context: &Context<'_>) -> Result<u32, RunError> {
    let schedules: Vec<Scheduled> = context.query(SCHEDULE_SCHEMA)?;
    Ok(months_ahead(&schedules))
}

impl Integration for Partitions {
    type Arguments = Arguments;

    fn name(&self) -> &'static str {
        PARTITIONS
    }

    fn run<'a>(
        &'a self,
        context: &'a Context<'a>,
        arguments: Arguments,
        dry_run: bool,
    ) -> BoxFuture<'a, Result<Plan, RunError>> {
        Box::pin(async move {
            let ahead = ahead(context)?;
            let approval = (!dry_run).then(|| context.approval());
            if let Some(shard) = &arguments.shard {
                return self.shard(shard, ahead, approval).await;
            }
            // One shard that is away keeps no other from its months.
            let names = self.shards.names();
            let all = join_all(names.iter().map(|name| self.shard(name, ahead, approval.clone()))).await;
            let mut whole = Plan::default();
            for (name, plan) in names.iter().zip(all) {
                match plan {
                    Ok(plan) => whole.join(plan),
                    Err(error) => whole.fail_shard(name, error.to_string()),
                }
            }
            Ok(whole)
        })
    }

    fn early_exit_desired_state(&self, context: &Context<'_>) -> Result<Option<Json>, RunError> {
        let ahead = ahead(context)?;
        let shards = self.shards.names().iter();
        let state: BTreeMap<&String, Json> =
            shards.map(|shard| (shard, json!({"shard": shard, "ahead": ahead}))).collect();
        Ok(Some(json!(state)))
    }

    fn desired_state_shard_config(&self) -> Option<ShardConfig> {
        Some(ShardConfig { parameter: "shard", selectors: &["$.*.shard"], review: |_| true })
    }
}

impl Partitions {
    /// A real run has an approval. A shard that nobody has begun to use yet is left to who does.
    async fn shard(&self, name: &str, ahead: u32, approval: Option<Approval>) -> Result<Plan, RunError> {
        let Some(shard) = self.shards.one(name).await.map_err(RunError::Failed)? else {
            return Ok(Plan::default());
        };
        let name: Arc<str> = name.into();
        store::run_tx(&shard.pool, "reconcile_partitions", move |connection| {
            let (name, approval) = (name.clone(), approval.clone());
            Box::pin(async move { run_in_tx(connection, &name, ahead, approval).await })
        })
        .await?
    }
}

async fn run_in_tx(
    connection: &mut PgConnection,
    shard: &str,
    ahead: u32,
    approval: Option<Approval>,
) -> store::Result<Result<Plan, RunError>> {
    match approval {
        None => reconcile::read_only_in_tx(connection).await?,
        Some(_) => reconcile::exclude_others_in_tx(connection, &format!("{PARTITIONS}/{shard}")).await?,
    }
    let missing = missing_in_tx(connection, ahead).await?;
    let mut plan = Plan::default();
    let names: Vec<String> = missing.iter().map(|month| month.format(MONTH_FORMAT).to_string()).collect();
    for month in &names {
        plan.create("partition", &format!("{shard}/{month}"), &json!({"month": month}));
    }
    plan.observed_in(shard, &names);
    if let Some(approval) = approval {
        if let Err(moved) = approval.check(&plan) {
            return Ok(Err(moved));
        }
        if !missing.is_empty() {
            store::fail_point("reconcile_planned");
            make_missing_in_tx(connection, &missing).await?;
            store::fail_point("reconcile_applied");
        }
    }
    Ok(Ok(plan))
}
