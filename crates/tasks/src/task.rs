//! Tasks in the control database: enqueued, looked at, begun, ended, forgotten.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use queue::fifo::{NewMessage, SendInTx};
use serde_json::Value as Json;
use sqlx::{PgConnection, PgPool};
use store::{Error, Result, run, run_tx};

use crate::{QUEUE, TaskType};

/// Enqueues tasks, and looks at them; clones share everything.
#[derive(Clone)]
pub struct Tasks {
    pub(crate) pool: PgPool,
    /// The types of task there are.
    pub types: Arc<[TaskType]>,
    sender: Arc<dyn SendInTx>,
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
    pub tick: Option<Tick>,
}

/// A tick of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tick {
    /// The schedule's name.
    pub schedule: String,
    /// When it was to run.
    pub at: DateTime<Utc>,
}

/// What became of a [`NewTask`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// It is there now.
    Added(i64),
    /// It was there.
    There(i64),
    /// Its key is that of a task with other content; nothing was changed.
    Other(i64),
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
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

impl Status {
    /// All there are.
    pub const ALL: [Self; 5] =
        [Status::Waiting, Status::Running, Status::Succeeded, Status::Failed, Status::Cancelled];

    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            Status::Waiting => "waiting",
            Status::Running => "running",
            Status::Succeeded => "succeeded",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
        }
    }
}

/// A task as it stands.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Task {
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
    /// A word of [`Status`].
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
}

/// Which tasks to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only in this state.
    pub status: Option<Status>,
    /// Only of this type.
    pub task_type: Option<String>,
    /// Only with smaller ids.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: i64,
}

impl Tasks {
    /// Tasks in the control database behind `pool`, of these types; `sender` brings them to the queue [`QUEUE`].
    pub fn new(pool: PgPool, types: Arc<[TaskType]>, sender: Arc<dyn SendInTx>) -> Self {
        Self { pool, types, sender }
    }

    /// Enqueues a task.
    pub async fn enqueue(&self, new: NewTask) -> Result<Enqueued> {
        let (tasks, new) = (self.clone(), Arc::new(new));
        run_tx(&self.pool, "enqueue_task", move |connection| {
            let (tasks, new) = (tasks.clone(), new.clone());
            Box::pin(async move { tasks.enqueue_in_tx(connection, &new).await })
        })
        .await
    }

    /// Enqueues a task when the caller's transaction commits. Two round trips.
    pub async fn enqueue_in_tx(&self, connection: &mut PgConnection, new: &NewTask) -> Result<Enqueued> {
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
        let Some(task_id) = added else { return self.there(connection, new).await };
        self.sender.send_in_tx(connection, QUEUE, &[message(task_id, new)]).await?;
        Ok(Enqueued::Added(task_id))
    }

    async fn there(&self, connection: &mut PgConnection, new: &NewTask) -> Result<Enqueued> {
        let (schedule, tick) = new.tick.as_ref().map(|tick| (&tick.schedule, tick.at)).unzip();
        let there: Option<(i64, String, String)> = sqlx::query_as(
            "SELECT task_id, task_type, params::text FROM tasks
             WHERE task_key = $1 OR (schedule, tick) = ($2, $3) -- find_task",
        )
        .bind(&new.key)
        .bind(schedule)
        .bind(tick)
        .fetch_optional(connection)
        .await?;
        // Forgotten just now: repeated, it is added.
        let (id, task_type, params) = there.ok_or_else(|| Error::Raced("tasks_by_key".to_owned()))?;
        let same =
            task_type == new.task_type && params.parse::<Json>().is_ok_and(|params| params == new.params);
        // What a tick's task is to do may have changed since; it has its task.
        Ok(if same || new.tick.is_some() { Enqueued::There(id) } else { Enqueued::Other(id) })
    }

    /// A task.
    pub async fn get(&self, task_id: i64) -> Result<Option<Task>> {
        run(&self.pool, "get_task", move |connection| {
            Box::pin(async move {
                let task = sqlx::query_as(GET).bind(task_id);
                Ok(task.fetch_optional(connection).await?)
            })
        })
        .await
    }

    /// Tasks, the newest first.
    pub async fn list(&self, filter: Filter) -> Result<Vec<Task>> {
        run(&self.pool, "list_tasks", move |connection| {
            let filter = filter.clone();
            Box::pin(async move {
                let tasks = sqlx::query_as(LIST)
                    .bind(filter.before)
                    .bind(filter.status.map(Status::name))
                    .bind(filter.task_type)
                    .bind(filter.limit);
                Ok(tasks.fetch_all(connection).await?)
            })
        })
        .await
    }
}

/// Ticks of one schedule come one after another; other tasks do not wait for each other.
fn message(task_id: i64, new: &NewTask) -> NewMessage {
    let group = match &new.tick {
        Some(tick) => format!("schedule/{}", tick.schedule),
        None => format!("task/{task_id}"),
    };
    NewMessage {
        group,
        deduplication: format!("task/{task_id}"),
        body: serde_json::json!({"task_id": task_id}).to_string(),
        attributes: [("TaskType".to_owned(), new.task_type.clone())].into(),
    }
}

/// The task that a message is about.
pub(crate) fn task_id(body: &str) -> Option<i64> {
    body.parse::<Json>().ok()?.get("task_id")?.as_i64()
}

/// An attempt that has begun.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Begun {
    pub(crate) number: u32,
    pub(crate) task_type: String,
    pub(crate) params: Json,
}

/// Whether there was anything to begin.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Begin {
    Begun(Begun),
    /// It has ended.
    Ended,
    /// There is no such task.
    Unknown,
}

/// Begins an attempt: the attempts before it can no longer end the task.
pub(crate) async fn begin(pool: &PgPool, task_id: i64) -> Result<Begin> {
    let row: (bool, Option<i32>, Option<String>, Option<String>) =
        run(pool, "begin_task", move |connection| {
            Box::pin(async move { Ok(sqlx::query_as(BEGIN).bind(task_id).fetch_one(connection).await?) })
        })
        .await?;
    Ok(match row {
        (_, Some(number), Some(task_type), Some(params)) => Begin::Begun(Begun {
            number: number.unsigned_abs(),
            task_type,
            // Postgres has checked that it is JSON.
            params: params.parse().unwrap_or_default(),
        }),
        (true, ..) => Begin::Ended,
        (false, ..) => Begin::Unknown,
    })
}

/// How an attempt ends.
#[derive(Debug, Clone)]
pub(crate) struct End {
    pub(crate) task_id: i64,
    pub(crate) number: u32,
    pub(crate) status: Status,
    pub(crate) error: Option<String>,
    pub(crate) outcome: Option<Json>,
}

/// Ends an attempt; `false`, and nothing is changed, if it is not the latest one or the task has ended.
pub(crate) async fn end(pool: &PgPool, end: End) -> Result<bool> {
    let end = Arc::new(end);
    run(pool, "end_task", move |connection| {
        let end = end.clone();
        Box::pin(async move {
            let ended = sqlx::query(END)
                .bind(end.task_id)
                .bind(end.number.cast_signed())
                .bind(end.status.name())
                .bind(&end.error)
                .bind(end.outcome.as_ref().map(Json::to_string))
                .execute(connection)
                .await?;
            Ok(ended.rows_affected() == 1)
        })
    })
    .await
}

/// Forgets tasks that ended so long ago, at most a thousand; how many.
pub async fn forget(pool: &PgPool, older_than: Duration) -> Result<u64> {
    let seconds = older_than.as_secs_f64();
    run(pool, "forget_tasks", move |connection| {
        Box::pin(
            async move { Ok(sqlx::query(FORGET).bind(seconds).execute(connection).await?.rows_affected()) },
        )
    })
    .await
}

const GET: &str = "SELECT task_id, task_type, params::text, task_key, schedule, tick, status, attempts, error, outcome::text,
       created_at, started_at, ended_at
FROM tasks WHERE task_id = $1 -- get_task";

const LIST: &str = "SELECT task_id, task_type, params::text, task_key, schedule, tick, status, attempts, error, outcome::text,
       created_at, started_at, ended_at
FROM tasks
WHERE ($1::bigint IS NULL OR task_id < $1) AND ($2::text IS NULL OR status = $2) AND ($3::text IS NULL OR task_type = $3)
ORDER BY task_id DESC LIMIT $4 -- list_tasks";

const BEGIN: &str = "-- begin_task
WITH begun AS (
    UPDATE tasks SET status = 'running', attempts = attempts + 1, started_at = coalesce(started_at, now())
    WHERE task_id = $1 AND status IN ('waiting', 'running')
    RETURNING attempts, task_type, params::text AS params
)
SELECT EXISTS (SELECT FROM tasks WHERE task_id = $1), b.attempts, b.task_type, b.params
FROM (SELECT 1) AS one LEFT JOIN begun b ON true";

/// A repetition whose first answer was lost finds its own end.
const END: &str = "-- end_task
UPDATE tasks SET status = $3, error = $4, outcome = $5::text::json,
                 ended_at = CASE WHEN $3 NOT IN ('waiting', 'running') THEN coalesce(ended_at, now()) END
WHERE task_id = $1 AND attempts = $2 AND status IN ('running', $3)";

const FORGET: &str = "-- forget_tasks
DELETE FROM tasks WHERE task_id IN (
    SELECT task_id FROM tasks WHERE ended_at < now() - make_interval(secs => $1) ORDER BY ended_at LIMIT 1000
)";
