//! Task type `noop`: succeeds after an optional delay.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tasks::{TaskAttempt, TaskAttemptError, TaskHandler};

/// Handler of task type `noop`.
pub struct NoopTask;

/// Params of task type `noop`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoopParams {
    /// Delay in seconds, 0 to 3600.
    #[serde(default, deserialize_with = "serving::body::or_default")]
    seconds: NoopSeconds,
    /// Ignored; shown with the task.
    #[serde(default, rename = "note")]
    _note: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "f64")]
struct NoopSeconds(f64);

impl TryFrom<f64> for NoopSeconds {
    type Error = &'static str;

    fn try_from(seconds: f64) -> Result<Self, Self::Error> {
        if (0.0..=3600.0).contains(&seconds) {
            Ok(Self(seconds))
        } else {
            Err("must be from 0 to 3600 seconds")
        }
    }
}

impl TaskHandler for NoopTask {
    const TASK_TYPE: &'static str = "noop";
    type Params = NoopParams;

    async fn run(&self, _: &TaskAttempt, params: NoopParams) -> Result<Value, TaskAttemptError> {
        if params.seconds.0 > 0.0 {
            tokio::time::sleep(Duration::from_secs_f64(params.seconds.0)).await;
        }
        Ok(json!(Map::new()))
    }
}
