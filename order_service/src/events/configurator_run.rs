//! `configurator_run`: a run of a configurator's graph, started and awaited.

use std::sync::Arc;
use std::time::Duration;

use configurator::run::RunStatus;
use configurator::template::Env;
use configurator::{Configurator, Given, Refused};
use futures::future::BoxFuture;
use queue::Backoff;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use tasks::{Attempt, Handler, TaskError};
use uuid::Uuid;

/// What to run.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunParams {
    /// The template.
    pub template_name: String,
    /// The environment.
    pub env: String,
    /// The run's inputs.
    #[serde(default, deserialize_with = "serving::body::or_default")]
    pub general_inputs: Map<String, Json>,
    /// Those of the environment.
    #[serde(default, deserialize_with = "serving::body::or_default")]
    pub env_inputs: Map<String, Json>,
}

/// Starts runs, and waits for their ends. The task is the run's key: one run for a task, however often it is begun. Answers
/// what came of it: at least `run_id` and `status`.
pub trait StartRuns: Send + Sync + 'static {
    /// Runs it.
    fn run<'a>(&'a self, attempt: &'a Attempt, params: RunParams) -> BoxFuture<'a, Result<Json, TaskError>>;
}

/// How long an end is waited for before the run is looked at again.
const LOOK_EVERY: Duration = Duration::from_secs(60);

impl StartRuns for Configurator {
    fn run<'a>(&'a self, attempt: &'a Attempt, params: RunParams) -> BoxFuture<'a, Result<Json, TaskError>> {
        Box::pin(async move {
            let env = params.env.parse::<Env>();
            let env =
                env.map_err(|reason| TaskError::Permanent(format!("VALIDATION_ERROR: env: {reason}")))?;
            let given = Given {
                template_name: params.template_name,
                template: None,
                env,
                general_inputs: params.general_inputs,
                env_inputs: params.env_inputs,
            };
            // The same for every attempt at the task.
            let request = Uuid::from_u64_pair(TASKS, attempt.task_id.cast_unsigned());
            let run_id = self.begin_once(given, request).await;
            let run_id = run_id.map_err(|error| refused(error, TURN.random_delay(attempt.number)))?;
            let noted = attempt.note_effects("run", vec![run_id.to_string()]).await;
            noted.map_err(|error| TaskError::Temporary(error.to_string()))?;
            loop {
                let run = self.wait(run_id, LOOK_EVERY).await;
                let run = run.map_err(|error| refused(error, TURN.random_delay(1)))?;
                match run.status {
                    RunStatus::Running => {}
                    RunStatus::Succeeded => {
                        return Ok(
                            json!({"run_id": run_id, "status": run.status.name(), "outputs": run.outputs}),
                        );
                    }
                    RunStatus::Failed | RunStatus::Cancelled => {
                        let reason = format!("the configurator's run {run_id} has {}", run.status.name());
                        return Err(TaskError::Permanent(reason));
                    }
                }
            }
        })
    }
}

/// What tells the requests of tasks from others.
const TASKS: u64 = u64::from_be_bytes(*b"task-run");

/// How soon it is looked whether it is a task's turn: the longer it has waited the later.
const TURN: Backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(10), jitter: 0.3 };

/// What waits for its turn, at the instance or at this process, comes again `later`.
fn refused(refused: Refused, later: Duration) -> TaskError {
    match refused {
        Refused::Running(run_id) => {
            let reason = format!("waits for its turn: the run {run_id} of the same template and env goes on");
            TaskError::Later(later, reason)
        }
        Refused::Compute(error) => TaskError::Later(later, format!("OVERLOADED: {error}")),
        Refused::Store(error) => TaskError::Temporary(format!("UNAVAILABLE: {error}")),
        Refused::NoTemplate(name) => TaskError::Permanent(format!("NOT_FOUND: there is no template {name}")),
        Refused::NoEnvironment(env) => {
            TaskError::Permanent(format!("VALIDATION_ERROR: env: {} has no queues here", env.name()))
        }
        Refused::Field(field, reason) => TaskError::Permanent(format!("VALIDATION_ERROR: {field}: {reason}")),
        other => TaskError::Permanent(format!("VALIDATION_ERROR: the run was refused: {other:?}")),
    }
}

/// Carries it out.
pub struct ConfiguratorRun(pub Arc<dyn StartRuns>);

impl Handler for ConfiguratorRun {
    const TASK_TYPE: &'static str = "configurator_run";
    type Params = RunParams;

    async fn run(&self, attempt: &Attempt, params: RunParams) -> Result<Json, TaskError> {
        self.0.run(attempt, params).await
    }
}
