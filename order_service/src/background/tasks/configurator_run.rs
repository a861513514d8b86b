//! Task type `configurator_run`: starts a configurator run and awaits its end.

use access::Scope;
use std::sync::Arc;
use std::time::Duration;

use configurator::run::RunStatus;
use configurator::template::Env;
use configurator::{Configurator, ConfiguratorError, RunRequest};
use futures::future::BoxFuture;
use queue::Backoff;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use tasks::{TaskAttempt, TaskAttemptError, TaskHandler};
use uuid::Uuid;

/// Parameters of the task.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfiguratorRunParams {
    /// Name of a stored template.
    pub template_name: String,
    /// Name of the environment.
    pub env: String,
    /// Inputs of the run that hold for every environment.
    #[serde(default, deserialize_with = "serving::body::or_default")]
    pub general_inputs: Map<String, Json>,
    /// Inputs of the run for this environment.
    #[serde(default, deserialize_with = "serving::body::or_default")]
    pub env_inputs: Map<String, Json>,
}

/// Starts configurator runs and awaits them. Idempotent: the task id is the idempotency key, so
/// that repeated attempts share one run. The result has at least `run_id` and `status`.
pub trait ConfiguratorRunner: Send + Sync + 'static {
    /// Starts the task's run, or joins it, and waits for its end.
    fn run<'a>(
        &'a self,
        attempt: &'a TaskAttempt,
        params: ConfiguratorRunParams,
    ) -> BoxFuture<'a, Result<Json, TaskAttemptError>>;
}

/// Interval at which the run's status is polled besides notifications.
const RUN_POLL_INTERVAL: Duration = Duration::from_secs(60);

impl ConfiguratorRunner for Configurator {
    fn run<'a>(
        &'a self,
        attempt: &'a TaskAttempt,
        params: ConfiguratorRunParams,
    ) -> BoxFuture<'a, Result<Json, TaskAttemptError>> {
        Box::pin(async move {
            let env = params.env.parse::<Env>();
            let env = env.map_err(|reason| {
                TaskAttemptError::Permanent(format!("VALIDATION_ERROR: env: {reason}"))
            })?;
            let run_input = RunRequest {
                template_name: params.template_name,
                template: None,
                env,
                general_inputs: params.general_inputs,
                env_inputs: params.env_inputs,
            };
            // Idempotency key: the same for every attempt of the task.
            let request_id =
                Uuid::from_u64_pair(TASK_REQUEST_NAMESPACE, attempt.task_id.get().cast_unsigned());
            let run_id = self.begin_run_once(run_input, request_id).await;
            let run_id = run_id.map_err(|error| {
                refusal_task_error(error, TURN_BACKOFF.random_delay(attempt.number))
            })?;
            let result = attempt.note_effects("run", vec![run_id.to_string()]).await;
            result.map_err(|error| TaskAttemptError::Temporary(error.to_string()))?;
            loop {
                let run = self.wait_for_run(run_id, RUN_POLL_INTERVAL).await;
                let run =
                    run.map_err(|error| refusal_task_error(error, TURN_BACKOFF.random_delay(1)))?;
                match run.status {
                    RunStatus::Running => {}
                    RunStatus::Succeeded => {
                        return Ok(
                            json!({"run_id": run_id, "status": run.status.name(), "outputs": run.outputs}),
                        );
                    }
                    RunStatus::Failed | RunStatus::Cancelled => {
                        let reason =
                            format!("the configurator's run {run_id} has {}", run.status.name());
                        return Err(TaskAttemptError::Permanent(reason));
                    }
                }
            }
        })
    }
}

/// Upper half of the request id: no collision with other requests' ids.
const TASK_REQUEST_NAMESPACE: u64 = u64::from_be_bytes(*b"task-run");

/// Backoff between the attempts of a task that waits for its turn.
const TURN_BACKOFF: Backoff = Backoff {
    first_delay: Duration::from_secs(1),
    max_delay: Duration::from_secs(10),
    jitter: 0.3,
};

/// A busy instance or an overloaded process defers the task by `delay`.
fn refusal_task_error(refused: ConfiguratorError, delay: Duration) -> TaskAttemptError {
    match refused {
        ConfiguratorError::Running(run_id) => {
            let reason = format!(
                "waits for its turn: the run {run_id} of the same template and env goes on"
            );
            TaskAttemptError::Deferred(delay, reason)
        }
        ConfiguratorError::Compute(error) => {
            TaskAttemptError::Deferred(delay, format!("OVERLOADED: {error}"))
        }
        ConfiguratorError::Store(error) => {
            TaskAttemptError::Temporary(format!("UNAVAILABLE: {error}"))
        }
        ConfiguratorError::NoTemplate(name) => {
            TaskAttemptError::Permanent(format!("NOT_FOUND: there is no template {name}"))
        }
        ConfiguratorError::NoEnvironment(env) => TaskAttemptError::Permanent(format!(
            "VALIDATION_ERROR: env: {} has no queues here",
            env.name()
        )),
        ConfiguratorError::Field(field, reason) => {
            TaskAttemptError::Permanent(format!("VALIDATION_ERROR: {field}: {reason}"))
        }
        other => {
            TaskAttemptError::Permanent(format!("VALIDATION_ERROR: the run was refused: {other:?}"))
        }
    }
}

/// Handler of the task type.
pub struct ConfiguratorRunHandler(pub Arc<dyn ConfiguratorRunner>);

impl TaskHandler for ConfiguratorRunHandler {
    const TASK_TYPE: &'static str = "configurator_run";
    const SCOPE: Option<Scope> = Some(Scope::ConfiguratorRun);
    type Params = ConfiguratorRunParams;

    async fn run(
        &self,
        attempt: &TaskAttempt,
        params: ConfiguratorRunParams,
    ) -> Result<Json, TaskAttemptError> {
        self.0.run(attempt, params).await
    }
}
