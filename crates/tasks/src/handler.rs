//! Task handlers, registered by task type.

use access::Scope;
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::task_type::{TaskType, parse_params};
use crate::{TaskId, TaskStore};

/// Handler of one task type. Must be idempotent: an attempt may repeat a task that was carried out
/// partly or completely (the worker was killed, or paused for long).
pub trait TaskHandler: Send + Sync + 'static {
    /// Name of the task type, such as `ledger.partitions`.
    const TASK_TYPE: &'static str;
    /// Params that are URLs: values that templates insert are escaped.
    const URL_PARAMS: &'static [&'static str] = &[];
    /// Scope of a client that would do the same over the API: who starts such tasks needs it.
    const SCOPE: Option<Scope> = None;
    /// Type of the task's `params`: a struct that denies unknown fields.
    type Params: DeserializeOwned + Send;

    /// Runs the task; returns its outcome, a JSON object for people. Dropped at an await when the
    /// task is cancelled or the worker loses it.
    fn run(
        &self,
        attempt: &TaskAttempt,
        params: Self::Params,
    ) -> impl Future<Output = Result<Json, TaskAttemptError>> + Send;
}

/// Reason for a failed or deferred attempt. `Temporary` and `Permanent` come to the outcomes
/// `Failed` and `Dead` of [`queue::JobOutcome`]'s table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskAttemptError {
    /// Transient: another attempt may succeed.
    Temporary(String),
    /// Permanent: no attempt can succeed.
    Permanent(String),
    /// Not runnable yet: begun again after this delay, without counting an attempt, without limit.
    Deferred(Duration, String),
    /// An external party requests a delay: like [`TaskAttemptError::Deferred`], but bounded in
    /// total.
    Postponed(Duration, String),
}

/// One attempt at a task.
#[derive(Clone)]
pub struct TaskAttempt {
    /// Id of the task.
    pub task_id: TaskId,
    /// Attempt number, from 1.
    pub number: u32,
    /// Depth in the chain of events and tasks; 0 if no event started the task.
    pub depth: i16,
    /// For enqueueing further tasks.
    pub tasks: TaskStore,
}

impl TaskAttempt {
    /// Records effects of the task elsewhere, by kind and ids, for lookup from there. Call it
    /// before producing the effect, so that no effect lacks a record.
    pub async fn note_effects(&self, kind: &'static str, ids: Vec<String>) -> store::Result<()> {
        store::statement(
            "note_task_effects",
            "INSERT INTO task_effects (kind, effect, task_id) SELECT $1, effect, $3 FROM unnest($2::text[]) AS effect
             ON CONFLICT DO NOTHING",
        )
        .bind(kind)
        .bind(ids)
        .bind(self.task_id)
        .execute(&self.tasks.pool)
        .await?;
        Ok(())
    }
}

impl TaskType {
    /// Task type of a handler.
    pub const fn of_handler<H: TaskHandler>() -> Self {
        Self::with_params::<H::Params>(H::TASK_TYPE, H::URL_PARAMS, H::SCOPE)
    }
}

/// Object-safe handler, with the params type erased.
trait ErasedTaskHandler: Send + Sync {
    fn run<'a>(
        &'a self,
        attempt: &'a TaskAttempt,
        params: Json,
    ) -> BoxFuture<'a, Result<Json, TaskAttemptError>>;
}

impl<H: TaskHandler> ErasedTaskHandler for H {
    fn run<'a>(
        &'a self,
        attempt: &'a TaskAttempt,
        params: Json,
    ) -> BoxFuture<'a, Result<Json, TaskAttemptError>> {
        match parse_params::<H::Params>(&params) {
            Ok(params) => Box::pin(TaskHandler::run(self, attempt, params)),
            // Validated when enqueued, but perhaps by another program version.
            Err(problem) => {
                let reason = format!("params: {} {}", problem.field, problem.reason);
                Box::pin(std::future::ready(Err(TaskAttemptError::Permanent(reason))))
            }
        }
    }
}

/// Handlers of a worker by task type.
#[derive(Clone, Default)]
pub struct TaskHandlers(HashMap<&'static str, Arc<dyn ErasedTaskHandler>>);

impl TaskHandlers {
    /// Adds a handler for its task type.
    pub fn with_handler<H: TaskHandler>(mut self, handler: H) -> Self {
        self.0.insert(H::TASK_TYPE, Arc::new(handler));
        self
    }

    pub(crate) async fn run(
        &self,
        task_type: &str,
        attempt: &TaskAttempt,
        params: Json,
    ) -> Result<Json, TaskAttemptError> {
        match self.0.get(task_type) {
            Some(handler) => handler.run(attempt, params).await,
            // Probably a newer version's type: a newer worker may know it.
            None => Err(TaskAttemptError::Temporary(format!(
                "this worker knows no task type `{task_type}`"
            ))),
        }
    }
}
