//! Task type `ledger.aggregates`: one pass of the aggregator on every shard.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use ledger::Ledger;
use ledger::aggregates::{Aggregator, run_aggregation_pass};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use tasks::{TaskAttempt, TaskAttemptError, TaskHandler};
use tokio::time::timeout;

/// Timeout of a pass on one shard. The task is retried; committed progress is kept.
const AGGREGATE_PASS_TIMEOUT: Duration = Duration::from_secs(600);

/// Forces a pass of the aggregator on every shard.
pub struct AggregatePassHandler {
    /// Ledger whose shards are aggregated.
    pub ledger: Arc<Ledger>,
}

/// The task takes no params.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AggregatePassParams {}

impl TaskHandler for AggregatePassHandler {
    const TASK_TYPE: &'static str = "ledger.aggregates";
    type Params = AggregatePassParams;

    async fn run(&self, _: &TaskAttempt, _: AggregatePassParams) -> Result<Json, TaskAttemptError> {
        let shards = self.ledger.shards.all().iter().zip(self.ledger.sequence_notifiers.iter());
        // A failed shard does not stop the others.
        let passes = shards.map(async |(shard, wake)| {
            let (types, wake) = (self.ledger.types.clone(), wake.clone());
            let aggregator = Aggregator {
                shard: shard.name.clone(),
                pool: shard.pool.clone(),
                types,
                notifier: wake,
            };
            (shard, timeout(AGGREGATE_PASS_TIMEOUT, run_aggregation_pass(aggregator)).await)
        });
        let (mut outcome, mut failed) = (Map::new(), Vec::new());
        for (shard, result) in join_all(passes).await {
            match result {
                Ok(Ok(seq)) => {
                    drop(outcome.insert(shard.name.clone(), json!({"aggregated_seq": seq})))
                }
                Ok(Err(error)) => failed.push(format!("shard {}: {error}", shard.name)),
                Err(_) => failed
                    .push(format!("shard {}: not done in {AGGREGATE_PASS_TIMEOUT:?}", shard.name)),
            }
        }
        if failed.is_empty() {
            Ok(Json::Object(outcome))
        } else {
            Err(TaskAttemptError::Temporary(failed.join("; ")))
        }
    }
}
