//! What a task does: handlers, registered by the type of task they carry out.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use reconcile::{FieldPath, FieldProblem, FieldStep, list_names, suggest_name};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::TaskStore;

/// Carries out the tasks of one type. A task may be begun again after it was carried out, in part or whole (a worker was
/// killed, or paused for long): handlers must be idempotent.
pub trait TaskHandler: Send + Sync + 'static {
    /// The type's name, such as `ledger.partitions`.
    const TASK_TYPE: &'static str;
    /// Params that are URLs: what templates put into them is escaped.
    const URL_PARAMS: &'static [&'static str] = &[];
    /// What the task's `params` are read as: a struct that denies unknown fields.
    type Params: DeserializeOwned + Send;

    /// Does it, and answers what came of it (an object, for people). Dropped at an await when the attempt is no longer the
    /// latest.
    fn run(
        &self,
        attempt: &TaskAttempt,
        params: Self::Params,
    ) -> impl Future<Output = Result<Json, TaskAttemptError>> + Send;
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskAttemptError {
    /// Another attempt may succeed.
    Temporary(String),
    /// None will.
    Permanent(String),
    /// It is not its turn yet: begun again after so long. That uses up no attempt, however often.
    Deferred(Duration, String),
    /// Somebody else asks for it to be begun again after so long: as [`TaskAttemptError::Deferred`], but not for ever.
    Postponed(Duration, String),
}

/// One attempt at a task.
#[derive(Clone)]
pub struct TaskAttempt {
    /// The task.
    pub task_id: i64,
    /// Which attempt, from 1.
    pub number: u32,
    /// The task's place in its chain of events and tasks; 0 if no event has started it.
    pub depth: i16,
    /// For enqueueing further tasks.
    pub tasks: TaskStore,
}

impl TaskAttempt {
    /// Notes what the task brings about elsewhere, by a kind and ids: the way back from there. Before it is done, so that
    /// nothing is without it.
    pub async fn note_effects(&self, kind: &'static str, ids: Vec<String>) -> store::Result<()> {
        let task_id = self.task_id;
        store::run_statement(&self.tasks.pool, "note_task_effects", move |connection| {
            let ids = ids.clone();
            Box::pin(async move {
                let noted = sqlx::query(
                    "INSERT INTO task_effects (kind, effect, task_id) SELECT $1, effect, $3 FROM unnest($2::text[]) AS effect
                     ON CONFLICT DO NOTHING -- note_task_effects",
                );
                noted.bind(kind).bind(ids).bind(task_id).execute(connection).await?;
                Ok(())
            })
        })
        .await
    }
}

/// What is known of a type of task wherever tasks are enqueued: its name, and what its `params` may be.
#[derive(Debug, Clone, Copy)]
pub struct TaskType {
    /// Its name.
    pub name: &'static str,
    /// Params that are URLs.
    pub url_params: &'static [&'static str],
    check_fn: fn(&Json) -> Result<(), FieldProblem>,
}

impl TaskType {
    /// That of a handler.
    pub const fn of_handler<H: TaskHandler>() -> Self {
        Self {
            name: H::TASK_TYPE,
            url_params: H::URL_PARAMS,
            check_fn: check_params_as::<H::Params>,
        }
    }

    /// The one of this name, or what to say to whoever gave it.
    pub fn find<'t>(name: &str, types: &'t [Self]) -> Result<&'t Self, String> {
        let names = || types.iter().map(|known| known.name);
        types.iter().find(|known| known.name == name).ok_or_else(|| {
            let given: String = name.chars().take(80).collect();
            let (near, allowed) = (suggest_name(&given, names()), list_names(names()));
            format!("there is no task type `{given}`{near} (allowed are {allowed})")
        })
    }

    /// What is wrong with `params`, as a field below `place`, where they are.
    pub fn check_params(&self, place: &str, params: &Json) -> Result<(), FieldProblem> {
        (self.check_fn)(params).map_err(|problem| {
            let field =
                problem.field.steps().iter().fold(
                    FieldPath::from(place),
                    |field, step| match step {
                        FieldStep::Key(key) => field.with_key(key.clone()),
                        FieldStep::Index(index) => field.with_index(*index),
                    },
                );
            FieldProblem { field, reason: problem.reason }
        })
    }
}

fn check_params_as<P: DeserializeOwned>(params: &Json) -> Result<(), FieldProblem> {
    parse_params::<P>(params).map(drop)
}

fn parse_params<P: DeserializeOwned>(params: &Json) -> Result<P, FieldProblem> {
    serde_path_to_error::deserialize(params).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { FieldPath::default() } else { FieldPath::from(path.as_str()) };
        FieldProblem { field, reason: add_field_suggestion(error.into_inner().to_string()) }
    })
}

/// An unknown field that is nearly one of several there are.
fn add_field_suggestion(reason: String) -> String {
    let Some(names) = reason.strip_prefix("unknown field `") else { return reason };
    let mut quoted = names.split('`').step_by(2);
    let unknown_field = quoted.next().unwrap_or_default();
    let known: Vec<&str> = quoted.collect();
    let near = if known.len() > 1 { suggest_name(unknown_field, known) } else { String::new() };
    format!("{reason}{near}")
}

/// A handler whose type of params is forgotten.
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
            // Checked when it was enqueued, perhaps by another version.
            Err(problem) => {
                let reason = format!("params: {} {}", problem.field, problem.reason);
                Box::pin(std::future::ready(Err(TaskAttemptError::Permanent(reason))))
            }
        }
    }
}

/// The handlers of a worker.
#[derive(Clone, Default)]
pub struct TaskHandlers(HashMap<&'static str, Arc<dyn ErasedTaskHandler>>);

impl TaskHandlers {
    /// With one more.
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
            // A newer program's: another worker may be that.
            None => Err(TaskAttemptError::Temporary(format!(
                "this worker knows no task type `{task_type}`"
            ))),
        }
    }
}
