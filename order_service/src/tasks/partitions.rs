//! `ledger.partitions`: the ledger's months, made ahead and dropped when they are beyond the retention.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures::future::join_all;
use ledger::Ledger;
use ledger::partitions::{Maintained, Retention, Terms, maintain};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use tasks::schedule::Scheduled;
use tasks::{Attempt, Handler, TaskError};

/// Months made ahead, unless the task says otherwise; and at most.
const AHEAD: u32 = 3;
const MOST_AHEAD: u32 = 120;

/// Makes and drops months on every shard.
pub struct LedgerPartitions {
    /// Its ledger.
    pub ledger: Arc<Ledger>,
    /// How long events are kept.
    pub retention: Retention,
}

/// How.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Months after the present one that are to have partitions.
    #[serde(default)]
    ahead: Ahead,
}

/// A number of months.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "u32")]
struct Ahead(u32);

impl Default for Ahead {
    fn default() -> Self {
        Self(AHEAD)
    }
}

impl TryFrom<u32> for Ahead {
    type Error = String;

    fn try_from(ahead: u32) -> Result<Self, String> {
        if ahead <= MOST_AHEAD { Ok(Self(ahead)) } else { Err(format!("at most {MOST_AHEAD} months ahead")) }
    }
}

/// The months after the present one for which these schedules make partitions; without any, those that a task makes by
/// itself.
pub fn months_ahead(schedules: &[Scheduled]) -> u32 {
    let ours = schedules.iter().filter(|scheduled| scheduled.task_type == LedgerPartitions::TASK_TYPE);
    let params = ours.filter_map(|scheduled| serde_json::from_value::<Params>(json!(scheduled.params)).ok());
    params.map(|params| params.ahead.0).max().unwrap_or(AHEAD)
}

impl Handler for LedgerPartitions {
    const TASK_TYPE: &'static str = "ledger.partitions";
    type Params = Params;

    async fn run(&self, _: &Attempt, params: Params) -> Result<Json, TaskError> {
        let terms = Terms { ahead: params.ahead.0, retention: self.retention };
        let types = self.ledger.types.now();
        // All of them, also if one fails.
        let shards = self.ledger.shards.all().iter();
        let maintained = shards.map(async |shard| (shard, maintain(shard, &types, terms).await));
        let (mut outcome, mut failed) = (Map::new(), Vec::new());
        for (shard, maintained) in join_all(maintained).await {
            match maintained {
                Ok(maintained) => drop(outcome.insert(shard.name.clone(), shown(&maintained))),
                Err(error) => failed.push(format!("shard {}: {error}", shard.name)),
            }
        }
        if failed.is_empty() {
            Ok(Json::Object(outcome))
        } else {
            Err(TaskError::Temporary(failed.join("; ")))
        }
    }
}

fn shown(maintained: &Maintained) -> Json {
    let month = |month: &DateTime<Utc>| month.format("%Y-%m").to_string();
    let months = |all: &[DateTime<Utc>]| all.iter().map(month).collect::<Vec<_>>();
    let kept = maintained.kept.iter().map(|kept| (month(&kept.month), Json::from(kept.reason.clone())));
    json!({
        "created": months(&maintained.created), "dropped": months(&maintained.dropped),
        "kept": kept.collect::<Map<_, _>>(),
    })
}
