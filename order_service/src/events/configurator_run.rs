//! `configurator_run`: a run of a configurator's graph, started and awaited.

use std::sync::Arc;

use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Map, Value as Json};
use tasks::{Attempt, Handler, TaskError};

/// What to run.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunParams {
    /// The template.
    pub template_name: String,
    /// The environment.
    pub env: String,
    /// The run's inputs.
    #[serde(default)]
    pub general_inputs: Map<String, Json>,
    /// Those of the environment.
    #[serde(default)]
    pub env_inputs: Map<String, Json>,
}

/// Starts runs, and waits for their ends. `task_id` is the run's key: one run for a task, however often it is begun. Answers
/// what came of it: at least `run_id` and `status`.
pub trait StartRuns: Send + Sync + 'static {
    /// Runs it.
    fn run(&self, task_id: i64, params: RunParams) -> BoxFuture<'_, Result<Json, TaskError>>;
}

/// There is no configurator in this program.
pub struct NoConfigurator;

impl StartRuns for NoConfigurator {
    fn run(&self, _: i64, _: RunParams) -> BoxFuture<'_, Result<Json, TaskError>> {
        let reason = "UNAVAILABLE: this program has no configurator; nothing was run";
        Box::pin(std::future::ready(Err(TaskError::Permanent(reason.to_owned()))))
    }
}

/// Carries it out.
pub struct ConfiguratorRun(pub Arc<dyn StartRuns>);

impl Handler for ConfiguratorRun {
    const TASK_TYPE: &'static str = "configurator_run";
    type Params = RunParams;

    async fn run(&self, attempt: &Attempt, params: RunParams) -> Result<Json, TaskError> {
        self.0.run(attempt.task_id, params).await
    }
}
