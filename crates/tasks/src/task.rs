//! Tasks in the control database: enqueued, looked at, begun, ended, forgotten.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use queue::fifo::{FifoTxSender, NewFifoMessage};
use serde_json::Value as Json;
use sqlx::{PgConnection, PgPool};
use store::{Error, PgOperation, Result, mutant, run_statement, run_tx};
use uuid::Uuid;

use crate::{TASK_QUEUE, TaskType};

/// What keys begin with that are not a caller's: nobody else's may, and none of them is shown.
pub(crate) const OWN_KEY_PREFIX: char = '\u{1}';

/// Enqueues tasks, and looks at them; clones share everything.
#[derive(Clone)]
pub struct TaskStore {
    pub(crate) pool: PgPool,
    /// On which the leases of a worker are renewed.
    pub(crate) lease_pool: PgPool,
    /// The types of task there are.
    pub types: Arc<[TaskType]>,
    sender: Arc<dyn FifoTxSender>,
}

/// A task to be enqueued. Its type and params have been checked.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTask {
    /// The type of task.
    pub task_type: String,
    /// Its params: an object.
    pub params: Json,
    /// Enqueued again under this key, it is the same task.
    pub key: Option<String>,
    /// The tick that it is for.
    pub tick: Option<ScheduleTick>,
}

/// A tick of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleTick {
    /// The schedule's name.
    pub schedule: String,
    /// When it was to run.
    pub at: DateTime<Utc>,
}

/// What became of a [`NewTask`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskEnqueueOutcome {
    /// It is there now.
    Added(i64),
    /// It was there.
    Existing(i64),
    /// Its key is that of a task with other content; nothing was changed.
    KeyConflict(i64),
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskStatus {
    /// Waits to be begun, or to be tried again.
    Waiting,
    /// A worker has it.
    Running,
    /// Done.
    Succeeded,
    /// Given up.
    Failed,
    /// Not wanted any more.
    Cancelled,
}

impl TaskStatus {
    /// All there are.
    pub const ALL: [Self; 5] = [
        TaskStatus::Waiting,
        TaskStatus::Running,
        TaskStatus::Succeeded,
        TaskStatus::Failed,
        TaskStatus::Cancelled,
    ];

    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            TaskStatus::Waiting => "waiting",
            TaskStatus::Running => "running",
            TaskStatus::Succeeded => "succeeded",
            TaskStatus::Failed => "failed",
            TaskStatus::Cancelled => "cancelled",
        }
    }
}

/// A task as it stands.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct TaskRow {
    /// Its id.
    pub task_id: i64,
    /// Its type.
    pub task_type: String,
    /// Its params: a JSON object.
    pub params: String,
    /// Its key, if it has one.
    pub task_key: Option<String>,
    /// The schedule, if it is for a tick.
    pub schedule: Option<String>,
    /// The tick, if it is for one.
    pub tick: Option<DateTime<Utc>>,
    /// A word of [`TaskStatus`].
    pub status: String,
    /// Attempts begun.
    pub attempts: i32,
    /// Why the latest attempt failed.
    pub error: Option<String>,
    /// What came of it: a JSON object.
    pub outcome: Option<String>,
    /// When it was enqueued.
    pub created_at: DateTime<Utc>,
    /// When it was first begun.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// The action config that started it.
    pub action_config: Option<String>,
    /// The event it was started on.
    pub event_id: Option<i64>,
    /// All events of its join.
    pub join_events: Option<Vec<i64>>,
    /// Which goes first.
    pub priority: i32,
    /// Tasks with this key run one at a time.
    pub concurrency_key: Option<String>,
    /// Failed attempts after which it is given up, if it says so itself.
    pub max_attempts: Option<i32>,
}

/// Which tasks to list.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    /// Only in this state.
    pub status: Option<TaskStatus>,
    /// Only of this type.
    pub task_type: Option<String>,
    /// Only with smaller ids.
    pub before: Option<i64>,
    /// Only of this action config.
    pub action_config: Option<String>,
    /// Only started on this event.
    pub event_id: Option<i64>,
    /// Only those that have this effect, by its kind and id, such as (`order`, `17`).
    pub effect: Option<(&'static str, String)>,
    /// At most so many.
    pub limit: i64,
}

impl TaskStore {
    /// Tasks in the control database behind `pool`, of these types; `sender` brings them to the queue [`TASK_QUEUE`].
    pub fn new(pool: PgPool, types: Arc<[TaskType]>, sender: Arc<dyn FifoTxSender>) -> Self {
        Self { lease_pool: pool.clone(), pool, types, sender }
    }

    /// Lets a worker renew its leases on a connection that nothing else waits for.
    pub fn with_lease_pool(self, leases: PgPool) -> Self {
        Self { lease_pool: leases, ..self }
    }

    /// Enqueues a task. One without a key gets a key of this call's own before the first try: repeated because the answer of
    /// the commit was lost, the call finds its task.
    pub async fn enqueue(&self, mut new: NewTask) -> Result<TaskEnqueueOutcome> {
        let own = new.key.is_none() && new.tick.is_none();
        if own && !mutant("task_without_a_key_of_its_own") {
            new.key = Some(format!("{OWN_KEY_PREFIX}{}", Uuid::new_v4().simple()));
        }
        let (tasks, new) = (self.clone(), Arc::new(new));
        let enqueued = run_tx(&self.pool, "enqueue_task", move |connection| {
            let (tasks, new) = (tasks.clone(), new.clone());
            Box::pin(async move { tasks.enqueue_in_tx(connection, &new).await })
        });
        Ok(match enqueued.await? {
            // By this very call.
            TaskEnqueueOutcome::Existing(id) if own => TaskEnqueueOutcome::Added(id),
            enqueued => enqueued,
        })
    }

    /// Enqueues a task when the caller's transaction commits. Two round trips. Without a key or tick, repeating the transaction
    /// after a lost answer makes another task.
    pub async fn enqueue_in_tx(
        &self,
        connection: &mut PgConnection,
        new: &NewTask,
    ) -> Result<TaskEnqueueOutcome> {
        let (schedule, tick) = new.tick.as_ref().map(|tick| (&tick.schedule, tick.at)).unzip();
        let added: Option<i64> = sqlx::query_scalar(
            "INSERT INTO tasks (task_type, params, task_key, schedule, tick)
             VALUES ($1, $2::text::json, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING task_id -- enqueue_task",
        )
        .bind(&new.task_type)
        .bind(new.params.to_string())
        .bind(&new.key)
        .bind(schedule)
        .bind(tick)
        .fetch_optional(&mut *connection)
        .await?;
        let Some(task_id) = added else { return self.find_existing(connection, new).await };
        let schedule = new.tick.as_ref().map(|tick| tick.schedule.as_str());
        self.send_in_tx(connection, new_task_message(task_id, &new.task_type, schedule, 0)).await?;
        Ok(TaskEnqueueOutcome::Added(task_id))
    }

    async fn find_existing(
        &self,
        connection: &mut PgConnection,
        new: &NewTask,
    ) -> Result<TaskEnqueueOutcome> {
        let (schedule, tick) = new.tick.as_ref().map(|tick| (&tick.schedule, tick.at)).unzip();
        let existing: Option<(i64, String, String)> = sqlx::query_as(
            "SELECT task_id, task_type, params::text FROM tasks
             WHERE task_key = $1 OR (schedule, tick) = ($2, $3) -- find_task",
        )
        .bind(&new.key)
        .bind(schedule)
        .bind(tick)
        .fetch_optional(connection)
        .await?;
        // Forgotten just now: repeated, it is added.
        let (id, task_type, params) =
            existing.ok_or_else(|| Error::KeyRace("tasks_by_key".to_owned()))?;
        let same = task_type == new.task_type
            && params.parse::<Json>().is_ok_and(|params| params == new.params);
        // What a tick's task is to do may have changed since; it has its task.
        Ok(if same || new.tick.is_some() {
            TaskEnqueueOutcome::Existing(id)
        } else {
            TaskEnqueueOutcome::KeyConflict(id)
        })
    }

    pub(crate) async fn send_in_tx(
        &self,
        connection: &mut PgConnection,
        message: NewFifoMessage,
    ) -> Result<()> {
        self.sender.send_in_tx(connection, TASK_QUEUE, &[message]).await.map(drop)
    }

    /// A task.
    pub async fn get(&self, task_id: i64) -> Result<Option<TaskRow>> {
        run_statement(&self.pool, "get_task", move |connection| {
            Box::pin(async move {
                let task = sqlx::query_as(GET_TASK_SQL).bind(task_id);
                Ok(task.fetch_optional(connection).await?)
            })
        })
        .await
    }

    /// Tasks, the newest first.
    pub async fn list(&self, filter: TaskFilter) -> Result<Vec<TaskRow>> {
        run_statement(&self.pool, PgOperation::named("list_tasks").expensive(), move |connection| {
            let filter = filter.clone();
            let (kind, effect) = filter.effect.unzip();
            Box::pin(async move {
                let tasks = sqlx::query_as(LIST_TASKS_SQL)
                    .bind(filter.before)
                    .bind(filter.status.map(TaskStatus::name))
                    .bind(filter.task_type)
                    .bind(filter.limit)
                    .bind(filter.action_config)
                    .bind(filter.event_id)
                    .bind(kind)
                    .bind(effect);
                Ok(tasks.fetch_all(connection).await?)
            })
        })
        .await
    }
}

/// Ticks of one schedule come one after another; other tasks do not wait for each other. `retries`: how often it was retried by
/// hand.
pub(crate) fn new_task_message(
    task_id: i64,
    task_type: &str,
    schedule: Option<&str>,
    retries: i32,
) -> NewFifoMessage {
    let group = match schedule {
        Some(schedule) => format!("schedule/{schedule}"),
        None => format!("task/{task_id}"),
    };
    let deduplication =
        if retries == 0 { format!("task/{task_id}") } else { format!("task/{task_id}/{retries}") };
    NewFifoMessage {
        group,
        deduplication_id: deduplication,
        body: serde_json::json!({"task_id": task_id, "retries": retries}).to_string(),
        attributes: [("TaskType".to_owned(), task_type.to_owned())].into(),
    }
}

/// The task that a message is about, and how often it had been retried by hand when the message was sent.
pub(crate) fn parse_task_message(body: &str) -> Option<(i64, i32)> {
    let body = body.parse::<Json>().ok()?;
    let retries = body.get("retries").and_then(Json::as_i64).unwrap_or(0);
    Some((body.get("task_id")?.as_i64()?, i32::try_from(retries).ok()?))
}

const GET_TASK_SQL: &str = "SELECT task_id, task_type, params::text, task_key, schedule, tick, status, attempts - waits AS attempts, error, outcome::text,
       created_at, started_at, ended_at, action_config, event_id, join_events, priority, concurrency_key, max_attempts
FROM tasks WHERE task_id = $1 -- get_task";

const LIST_TASKS_SQL: &str = "SELECT task_id, task_type, params::text, task_key, schedule, tick, status, attempts - waits AS attempts, error, outcome::text,
       created_at, started_at, ended_at, action_config, event_id, join_events, priority, concurrency_key, max_attempts
FROM tasks
WHERE ($1::bigint IS NULL OR task_id < $1) AND ($2::text IS NULL OR status = $2) AND ($3::text IS NULL OR task_type = $3)
      AND ($5::text IS NULL OR action_config = $5) AND ($6::bigint IS NULL OR event_id = $6)
      AND ($7::text IS NULL OR task_id IN (SELECT task_id FROM task_effects WHERE kind = $7 AND effect = $8))
ORDER BY task_id DESC LIMIT $4 -- list_tasks";
