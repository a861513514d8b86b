//! `ledger.aggregates`: a pass of the aggregator.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use ledger::Ledger;
use ledger::aggregates::{Aggregator, pass};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use tasks::{Attempt, Handler, TaskError};
use tokio::time::timeout;

/// A pass that takes longer is tried again: what it has done until then is done.
const MOST_TIME: Duration = Duration::from_secs(600);

/// Forces a pass of the aggregator on every shard.
pub struct LedgerAggregates {
    /// Its ledger.
    pub ledger: Arc<Ledger>,
}

/// It takes none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {}

impl Handler for LedgerAggregates {
    const TASK_TYPE: &'static str = "ledger.aggregates";
    type Params = Params;

    async fn run(&self, _: &Attempt, _: Params) -> Result<Json, TaskError> {
        let shards = self.ledger.shards.all().iter().zip(self.ledger.wakes.iter());
        // All of them, also if one fails.
        let passes = shards.map(async |(shard, wake)| {
            let (types, wake) = (self.ledger.types.clone(), wake.clone());
            let aggregator = Aggregator { shard: shard.name.clone(), pool: shard.pool.clone(), types, wake };
            (shard, timeout(MOST_TIME, pass(aggregator)).await)
        });
        let (mut outcome, mut failed) = (Map::new(), Vec::new());
        for (shard, passed) in join_all(passes).await {
            match passed {
                Ok(Ok(seq)) => drop(outcome.insert(shard.name.clone(), json!({"aggregated_seq": seq}))),
                Ok(Err(error)) => failed.push(format!("shard {}: {error}", shard.name)),
                Err(_) => failed.push(format!("shard {}: not done in {MOST_TIME:?}", shard.name)),
            }
        }
        if failed.is_empty() {
            Ok(Json::Object(outcome))
        } else {
            Err(TaskError::Temporary(failed.join("; ")))
        }
    }
}
