//! Tasks in the control database: enqueue, read, and the FIFO messages about them.
//!
//! - Shape: one row of `tasks` per task; a message in the same transaction.
//! - Cost: two round trips per enqueue.
//! - Promise: enqueueing with a key or tick is idempotent, also after commit outcome unknown.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use queue::fifo::{FifoTxSender, NewFifoMessage};
use serde_json::Value as Json;
use sqlx::{PgConnection, PgPool};
use store::{Error, PgOperation, Result, mutant};
use uuid::Uuid;

use crate::{EventId, TASK_QUEUE, TaskId, TaskType};

/// Prefix of generated keys; callers' keys cannot begin with it, and it is never shown.
pub(crate) const OWN_KEY_PREFIX: char = '\u{1}';

/// Task store; clones share state.
#[derive(Clone)]
pub struct TaskStore {
    pub(crate) pool: PgPool,
    /// Pool on which a worker renews its leases.
    pub(crate) lease_pool: PgPool,
    /// Pool on which a worker claims jobs.
    pub(crate) claim_pool: PgPool,
    /// Task types that may be enqueued.
    pub types: Arc<[TaskType]>,
    sender: Arc<dyn FifoTxSender>,
}

/// A validated task to be enqueued.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTask {
    /// Task type, such as `http_request`.
    pub task_type: String,
    /// Task params, a JSON object.
    pub params: Json,
    /// Idempotency key: enqueueing again under the same key finds the same task.
    pub key: Option<String>,
    /// Schedule tick that the task is for.
    pub tick: Option<ScheduleTick>,
}

/// A tick of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleTick {
    /// Name of the schedule.
    pub schedule: String,
    /// Scheduled time of the tick.
    pub at: DateTime<Utc>,
}

/// Outcome of enqueueing a [`NewTask`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskEnqueueOutcome {
    /// Id of the new task.
    Added(TaskId),
    /// Id of the task that already existed.
    Existing(TaskId),
    /// Id of a task that has the key with other content; nothing was changed.
    KeyConflict(TaskId),
}

/// The task that a job or message names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TaskRef {
    pub(crate) task_id: TaskId,
    /// The task's manual retries when the job or message was sent.
    pub(crate) retries: i32,
}

/// Status of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskStatus {
    /// Waiting for its first or next attempt.
    Waiting,
    /// An attempt is running.
    Running,
    /// Ended with an outcome.
    Succeeded,
    /// Given up after failed attempts.
    Failed,
    /// Cancelled by an operator.
    Cancelled,
}

impl TaskStatus {
    /// All statuses, ended ones last.
    pub const ALL: [Self; 5] = [
        TaskStatus::Waiting,
        TaskStatus::Running,
        TaskStatus::Succeeded,
        TaskStatus::Failed,
        TaskStatus::Cancelled,
    ];

    /// Name in the database and the API.
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

/// Parses a JSON column that was read as text. Infallible: Postgres has validated the JSON.
pub fn parse_json_text(text: &str) -> Json {
    text.parse().unwrap_or_default()
}

/// A task as stored.
#[derive(Debug, Clone, PartialEq, Eq, store::FromRow)]
pub struct TaskRow {
    /// Task id, ascending by creation.
    pub task_id: TaskId,
    /// Task type, such as `http_request`.
    pub task_type: String,
    /// Params, as JSON object text.
    pub params: String,
    /// Idempotency key, possibly generated.
    pub task_key: Option<String>,
    /// Name of the schedule, if the task is for a tick.
    pub schedule: Option<String>,
    /// Scheduled time, if the task is for a tick.
    pub tick: Option<DateTime<Utc>>,
    /// Name of a [`TaskStatus`].
    pub status: String,
    /// Attempts begun, without deferred ones.
    pub attempts: i32,
    /// Why the latest attempt failed or was deferred.
    pub error: Option<String>,
    /// Outcome of a success, as JSON object text.
    pub outcome: Option<String>,
    /// Time when it was enqueued.
    pub created_at: DateTime<Utc>,
    /// Time when its first attempt began.
    pub started_at: Option<DateTime<Utc>>,
    /// Time when it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Action config that started the task.
    pub action_config: Option<String>,
    /// Event that started the task.
    pub event_id: Option<EventId>,
    /// All events of the join, if any.
    pub join_events: Option<Vec<EventId>>,
    /// Queue priority: above 0 runs earlier, below 0 later.
    pub priority: i32,
    /// Tasks with equal keys run one at a time.
    pub concurrency_key: Option<String>,
    /// Failed attempts before it is given up; `None`: the worker's default.
    pub max_attempts: Option<i32>,
}

/// Filter of a task listing; `None`: any.
#[derive(Debug, Clone, Default)]
pub struct TaskFilter {
    /// Tasks with this status.
    pub status: Option<TaskStatus>,
    /// Tasks of this type.
    pub task_type: Option<String>,
    /// Tasks with smaller ids: the cursor of keyset pagination.
    pub before: Option<TaskId>,
    /// Tasks of this action config.
    pub action_config: Option<String>,
    /// Tasks started by this event.
    pub event_id: Option<EventId>,
    /// Tasks with this effect, by kind and id, such as (`order`, `17`).
    pub effect: Option<(&'static str, String)>,
    /// Maximum number of tasks returned.
    pub limit: i64,
}

impl TaskStore {
    /// Task store in the control database behind `pool`; `sender` sends to the queue
    /// [`TASK_QUEUE`].
    pub fn new(pool: PgPool, types: Arc<[TaskType]>, sender: Arc<dyn FifoTxSender>) -> Self {
        Self { lease_pool: pool.clone(), claim_pool: pool.clone(), pool, types, sender }
    }

    /// Gives a worker separate pools: `leases` to renew its leases, so that nothing delays them, and
    /// `claims` to claim jobs.
    pub fn with_worker_pools(self, leases: PgPool, claims: PgPool) -> Self {
        Self { lease_pool: leases, claim_pool: claims, ..self }
    }

    /// Enqueues a task. Without a key, the call generates one before the first attempt: a retry
    /// after a lost commit answer then finds the task.
    pub async fn enqueue(&self, mut new: NewTask) -> Result<TaskEnqueueOutcome> {
        let own = new.key.is_none() && new.tick.is_none();
        if own && !mutant("task_without_a_key_of_its_own") {
            new.key = Some(format!("{OWN_KEY_PREFIX}{}", Uuid::new_v4().simple()));
        }
        let enqueued = store::transaction("enqueue_task", (self.clone(), new))
            .run(&self.pool, |connection, (tasks, new)| {
                Box::pin(tasks.enqueue_in_tx(connection, new))
            })
            .await?;
        Ok(match enqueued {
            // Added by an earlier attempt of this call.
            TaskEnqueueOutcome::Existing(id) if own => TaskEnqueueOutcome::Added(id),
            enqueued => enqueued,
        })
    }

    /// Enqueues a task in the caller's transaction. Two round trips. Without a key or tick, a retry
    /// of the transaction after a lost answer adds another task.
    pub async fn enqueue_in_tx(
        &self,
        connection: &mut PgConnection,
        new: &NewTask,
    ) -> Result<TaskEnqueueOutcome> {
        let (schedule, tick) = new.tick.as_ref().map(|tick| (&tick.schedule, tick.at)).unzip();
        let added: Option<TaskId> = store::statement(
            "enqueue_task",
            "INSERT INTO tasks (task_type, params, task_key, schedule, tick)
             VALUES ($1, $2::text::json, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING task_id",
        )
        .bind(&new.task_type)
        .bind(new.params.to_string())
        .bind(&new.key)
        .bind(schedule)
        .bind(tick)
        .fetch_optional_value(&mut *connection)
        .await?;
        let Some(task_id) = added else { return self.find_existing(connection, new).await };
        let schedule = new.tick.as_ref().map(|tick| tick.schedule.as_str());
        let task = TaskRef { task_id, retries: 0 };
        self.send_in_tx(connection, new_task_message(task, &new.task_type, schedule)).await?;
        Ok(TaskEnqueueOutcome::Added(task_id))
    }

    async fn find_existing(
        &self,
        connection: &mut PgConnection,
        new: &NewTask,
    ) -> Result<TaskEnqueueOutcome> {
        let (schedule, tick) = new.tick.as_ref().map(|tick| (&tick.schedule, tick.at)).unzip();
        let existing: Option<(TaskId, String, String)> = store::statement(
            "find_task",
            "SELECT task_id, task_type, params::text FROM tasks
             WHERE task_key = $1 OR (schedule, tick) = ($2, $3)",
        )
        .bind(&new.key)
        .bind(schedule)
        .bind(tick)
        .fetch_optional(connection)
        .await?;
        // Deleted by retention in between: a retry of the transaction adds it.
        let (id, task_type, params) =
            existing.ok_or_else(|| Error::KeyRace("tasks_by_key".to_owned()))?;
        let same = task_type == new.task_type
            && params.parse::<Json>().is_ok_and(|params| params == new.params);
        // The schedule may have changed since; the tick keeps its task.
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

    /// Reads a task; `None` if it does not exist.
    pub async fn get(&self, task_id: TaskId) -> Result<Option<TaskRow>> {
        store::statement("get_task", GET_TASK_SQL).bind(task_id).fetch_optional(&self.pool).await
    }

    /// Lists tasks, newest first.
    pub async fn list(&self, filter: TaskFilter) -> Result<Vec<TaskRow>> {
        let (kind, effect) = filter.effect.unzip();
        store::statement(PgOperation::named("list_tasks").expensive(), LIST_TASKS_SQL)
            .bind(filter.before)
            .bind(filter.status.map(TaskStatus::name))
            .bind(filter.task_type)
            .bind(filter.limit)
            .bind(filter.action_config)
            .bind(filter.event_id)
            .bind(kind)
            .bind(effect)
            .fetch_all(&self.pool)
            .await
    }
}

/// Ticks of one schedule share a message group and run in order; other tasks run independently.
pub(crate) fn new_task_message(
    TaskRef { task_id, retries }: TaskRef,
    task_type: &str,
    schedule: Option<&str>,
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

/// The task of a message.
pub(crate) fn parse_task_message(body: &str) -> Option<TaskRef> {
    let body = body.parse::<Json>().ok()?;
    let retries = body.get("retries").and_then(Json::as_i64).unwrap_or(0);
    let task_id = TaskId(body.get("task_id")?.as_i64()?);
    Some(TaskRef { task_id, retries: i32::try_from(retries).ok()? })
}

const GET_TASK_SQL: &str = "SELECT task_id, task_type, params::text, task_key, schedule, tick, status, attempts - waits AS attempts, error, outcome::text,
       created_at, started_at, ended_at, action_config, event_id, join_events, priority, concurrency_key, max_attempts
FROM tasks WHERE task_id = $1";

const LIST_TASKS_SQL: &str = "SELECT task_id, task_type, params::text, task_key, schedule, tick, status, attempts - waits AS attempts, error, outcome::text,
       created_at, started_at, ended_at, action_config, event_id, join_events, priority, concurrency_key, max_attempts
FROM tasks
WHERE ($1::bigint IS NULL OR task_id < $1) AND ($2::text IS NULL OR status = $2) AND ($3::text IS NULL OR task_type = $3)
      AND ($5::text IS NULL OR action_config = $5) AND ($6::bigint IS NULL OR event_id = $6)
      AND ($7::text IS NULL OR task_id IN (SELECT task_id FROM task_effects WHERE kind = $7 AND effect = $8))
ORDER BY task_id DESC LIMIT $4";
