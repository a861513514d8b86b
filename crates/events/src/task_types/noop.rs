//! `noop`: nothing, at once or after a while.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tasks::{TaskAttempt, TaskAttemptError, TaskHandler};

/// Does nothing.
pub struct NoopTask;

/// How long, and what to remember.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoopParams {
    /// Takes so long.
    #[serde(default, deserialize_with = "serving::body::or_default")]
    seconds: NoopSeconds,
    /// Whatever one wants to see with the task.
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
