//! Task type `ledger.partitions`: creates monthly partitions ahead of time and drops those beyond
//! the retention.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures::future::join_all;
use ledger::Ledger;
use ledger::partitions::{PartitionOptions, PartitionReport, Retention, maintain_partitions};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use tasks::schedule::TaskSchedule;
use tasks::{TaskAttempt, TaskAttemptError, TaskHandler};

/// Default and maximum of the number of months created ahead.
const DEFAULT_MONTHS_AHEAD: u32 = 3;
const MAX_MONTHS_AHEAD: u32 = 120;

/// Creates and drops monthly partitions on every shard.
pub struct PartitionMaintenanceHandler {
    /// Ledger whose shards are maintained.
    pub ledger: Arc<Ledger>,
    /// Retention of ledger events, by months.
    pub retention: Retention,
}

/// Params of the task.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionMaintenanceParams {
    /// Number of months after the current one that need a partition.
    #[serde(default)]
    ahead: MonthsAhead,
}

/// Number of months, 0 to `MAX_MONTHS_AHEAD`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "u32")]
struct MonthsAhead(u32);

impl Default for MonthsAhead {
    fn default() -> Self {
        Self(DEFAULT_MONTHS_AHEAD)
    }
}

impl TryFrom<u32> for MonthsAhead {
    type Error = String;

    fn try_from(ahead: u32) -> Result<Self, String> {
        if ahead <= MAX_MONTHS_AHEAD {
            Ok(Self(ahead))
        } else {
            Err(format!("at most {MAX_MONTHS_AHEAD} months ahead"))
        }
    }
}

/// Largest number of months ahead among the schedules of `ledger.partitions`; without such a
/// schedule, the task's default.
pub fn months_ahead(schedules: &[TaskSchedule]) -> u32 {
    let own_schedules = schedules
        .iter()
        .filter(|scheduled| scheduled.task_type == PartitionMaintenanceHandler::TASK_TYPE);
    let params = own_schedules.filter_map(|scheduled| {
        serde_json::from_value::<PartitionMaintenanceParams>(json!(scheduled.params)).ok()
    });
    params.map(|params| params.ahead.0).max().unwrap_or(DEFAULT_MONTHS_AHEAD)
}

impl TaskHandler for PartitionMaintenanceHandler {
    const TASK_TYPE: &'static str = "ledger.partitions";
    type Params = PartitionMaintenanceParams;

    async fn run(
        &self,
        _: &TaskAttempt,
        params: PartitionMaintenanceParams,
    ) -> Result<Json, TaskAttemptError> {
        let options = PartitionOptions { months_ahead: params.ahead.0, retention: self.retention };
        let types = self.ledger.types.current();
        // A failed shard does not stop the others.
        let shards = self.ledger.shards.all().iter();
        let maintained =
            shards.map(async |shard| (shard, maintain_partitions(shard, &types, options).await));
        let (mut outcome, mut failed) = (Map::new(), Vec::new());
        for (shard, maintained) in join_all(maintained).await {
            match maintained {
                Ok(maintained) => {
                    drop(outcome.insert(shard.name.clone(), partition_report_json(&maintained)))
                }
                Err(error) => failed.push(format!("shard {}: {error}", shard.name)),
            }
        }
        if failed.is_empty() {
            Ok(Json::Object(outcome))
        } else {
            Err(TaskAttemptError::Temporary(failed.join("; ")))
        }
    }
}

fn partition_report_json(report: &PartitionReport) -> Json {
    let created: Vec<String> = report.created.iter().map(format_month).collect();
    let dropped: Vec<String> = report.dropped.iter().map(format_month).collect();
    let mut kept = Map::new();
    for retained in &report.retained {
        kept.insert(format_month(&retained.month), Json::from(retained.reason.clone()));
    }
    json!({"created": created, "dropped": dropped, "kept": kept})
}

fn format_month(month: &DateTime<Utc>) -> String {
    month.format("%Y-%m").to_string()
}
