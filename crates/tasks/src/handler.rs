//! What a task does: handlers, registered by the type of task they carry out.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use reconcile::{Field, Problem, Step, listed, suggestion};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::Tasks;

/// Carries out the tasks of one type. A task may be begun again after it was carried out, in part or whole (a worker was
/// killed, or paused for long): handlers must be idempotent.
pub trait Handler: Send + Sync + 'static {
    /// The type's name, such as `ledger.partitions`.
    const TASK_TYPE: &'static str;
    /// Params that are URLs: what templates put into them is escaped.
    const URLS: &'static [&'static str] = &[];
    /// What the task's `params` are read as: a struct that denies unknown fields.
    type Params: DeserializeOwned + Send;

    /// Does it, and answers what came of it (an object, for people). Dropped at an await when the attempt is no longer the
    /// latest.
    fn run(
        &self,
        attempt: &Attempt,
        params: Self::Params,
    ) -> impl Future<Output = Result<Json, TaskError>> + Send;
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskError {
    /// Another attempt may succeed.
    Temporary(String),
    /// None will.
    Permanent(String),
    /// It is not its turn yet: begun again after so long. That uses up no attempt, however often.
    Later(Duration, String),
    /// Somebody else asks for it to be begun again after so long: as [`TaskError::Later`], but not for ever.
    PutOff(Duration, String),
}

/// One attempt at a task.
#[derive(Clone)]
pub struct Attempt {
    /// The task.
    pub task_id: i64,
    /// Which attempt, from 1.
    pub number: u32,
    /// The task's place in its chain of events and tasks; 0 if no event has started it.
    pub depth: i16,
    /// For enqueueing further tasks.
    pub tasks: Tasks,
}

impl Attempt {
    /// Notes what the task brings about elsewhere, by a kind and ids: the way back from there. Before it is done, so that
    /// nothing is without it.
    pub async fn note_effects(&self, kind: &'static str, ids: Vec<String>) -> store::Result<()> {
        let task_id = self.task_id;
        store::run(&self.tasks.pool, "note_task_effects", move |connection| {
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
    pub urls: &'static [&'static str],
    check: fn(&Json) -> Result<(), Problem>,
}

impl TaskType {
    /// That of a handler.
    pub const fn of<H: Handler>() -> Self {
        Self { name: H::TASK_TYPE, urls: H::URLS, check: check::<H::Params> }
    }

    /// The one of this name, or what to say to whoever gave it.
    pub fn find<'t>(name: &str, types: &'t [Self]) -> Result<&'t Self, String> {
        let names = || types.iter().map(|known| known.name);
        types.iter().find(|known| known.name == name).ok_or_else(|| {
            let given: String = name.chars().take(80).collect();
            let (near, allowed) = (suggestion(&given, names()), listed(names()));
            format!("there is no task type `{given}`{near} (allowed are {allowed})")
        })
    }

    /// What is wrong with `params`, as a field below `place`, where they are.
    pub fn check(&self, place: &str, params: &Json) -> Result<(), Problem> {
        (self.check)(params).map_err(|problem| {
            let field = problem.field.steps().iter().fold(Field::from(place), |field, step| match step {
                Step::Key(key) => field.key(key.clone()),
                Step::Index(index) => field.index(*index),
            });
            Problem { field, reason: problem.reason }
        })
    }
}

fn check<P: DeserializeOwned>(params: &Json) -> Result<(), Problem> {
    read::<P>(params).map(drop)
}

fn read<P: DeserializeOwned>(params: &Json) -> Result<P, Problem> {
    serde_path_to_error::deserialize(params).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { Field::default() } else { Field::from(path.as_str()) };
        Problem { field, reason: with_nearest(error.into_inner().to_string()) }
    })
}

/// An unknown field that is nearly one of several there are.
fn with_nearest(reason: String) -> String {
    let Some(names) = reason.strip_prefix("unknown field `") else { return reason };
    let mut quoted = names.split('`').step_by(2);
    let given = quoted.next().unwrap_or_default();
    let known: Vec<&str> = quoted.collect();
    let near = if known.len() > 1 { suggestion(given, known) } else { String::new() };
    format!("{reason}{near}")
}

/// A handler whose type of params is forgotten.
trait Erased: Send + Sync {
    fn run<'a>(&'a self, attempt: &'a Attempt, params: Json) -> BoxFuture<'a, Result<Json, TaskError>>;
}

impl<H: Handler> Erased for H {
    fn run<'a>(&'a self, attempt: &'a Attempt, params: Json) -> BoxFuture<'a, Result<Json, TaskError>> {
        match read::<H::Params>(&params) {
            Ok(params) => Box::pin(Handler::run(self, attempt, params)),
            // Checked when it was enqueued, perhaps by another version.
            Err(problem) => {
                let reason = format!("params: {} {}", problem.field, problem.reason);
                Box::pin(std::future::ready(Err(TaskError::Permanent(reason))))
            }
        }
    }
}

/// The handlers of a worker.
#[derive(Clone, Default)]
pub struct Handlers(HashMap<&'static str, Arc<dyn Erased>>);

impl Handlers {
    /// With one more.
    pub fn with<H: Handler>(mut self, handler: H) -> Self {
        self.0.insert(H::TASK_TYPE, Arc::new(handler));
        self
    }

    pub(crate) async fn run(
        &self,
        task_type: &str,
        attempt: &Attempt,
        params: Json,
    ) -> Result<Json, TaskError> {
        match self.0.get(task_type) {
            Some(handler) => handler.run(attempt, params).await,
            // A newer program's: another worker may be that.
            None => Err(TaskError::Temporary(format!("this worker knows no task type `{task_type}`"))),
        }
    }
}
