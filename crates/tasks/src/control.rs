//! Cancelling and retrying tasks, at an operator's word.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use queue::{enqueue_in_tx, forget_dead_in_tx, hurry_in_tx};
use sqlx::PgConnection;
use store::{Result, run_tx_refusable};

use crate::action::{ACTIONS, job, job_key};
use crate::task::message;
use crate::{Status, Tasks};

/// The channel on which workers hear of tasks that are cancelled; the payload is the task.
pub const CANCELLED_CHANNEL: &str = "tasks_cancelled";

/// What became of a word about a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// It was followed, or already had been.
    Followed,
    /// There is no such task.
    Unknown,
    /// The task's status does not allow it.
    Not(String),
}

impl Done {
    /// Says no because of the task's status, which an earlier try may have made.
    fn is_refused(&self) -> bool {
        matches!(self, Done::Not(_))
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    status: String,
    task_type: String,
    schedule: Option<String>,
    action_config: Option<String>,
    priority: i32,
    concurrency_key: Option<String>,
    retries: i32,
}

impl Row {
    fn is(&self, status: Status) -> bool {
        self.status == status.name()
    }
}

impl Tasks {
    /// Cancels a task that has not ended: it is not begun any more, and what is in work is dropped at its next await.
    pub async fn cancel(&self, task_id: i64) -> Result<Done> {
        run_tx_refusable(&self.pool, "cancel_task", Done::is_refused, move |connection| {
            Box::pin(async move { cancel_in_tx(connection, task_id).await })
        })
        .await
    }

    /// Tries a task that failed or was cancelled again, with no attempts used up; one that waits for its next attempt is
    /// due now.
    pub async fn retry(&self, task_id: i64) -> Result<Done> {
        // What this call has made of `retries` in a try whose commit may have been answered or not.
        let (tasks, made) = (self.clone(), Arc::new(AtomicI32::new(i32::MAX)));
        run_tx_refusable(&self.pool, "retry_task", Done::is_refused, move |connection| {
            let (tasks, made) = (tasks.clone(), made.clone());
            Box::pin(async move { tasks.retry_in_tx(connection, task_id, &made).await })
        })
        .await
    }

    async fn retry_in_tx(
        &self,
        connection: &mut PgConnection,
        task_id: i64,
        made: &AtomicI32,
    ) -> Result<Done> {
        let Some(row) = lock(connection, task_id).await? else { return Ok(Done::Unknown) };
        if row.retries >= made.load(Ordering::Relaxed) {
            // By this very call: it was committed, and only the answer was lost.
            return Ok(Done::Followed);
        }
        let key = job_key(task_id, row.retries);
        if row.is(Status::Waiting) {
            hurry_in_tx(connection, ACTIONS, &[key]).await?;
            return Ok(Done::Followed);
        }
        if !row.is(Status::Failed) && !row.is(Status::Cancelled) {
            return Ok(Done::Not(row.status));
        }
        sqlx::query(
            "UPDATE tasks SET status = 'waiting', retries = retries + 1, attempts_before = attempts, postponed = 0,
                    ended_at = NULL, reported = NULL WHERE task_id = $1 -- revive_task",
        )
        .bind(task_id)
        .execute(&mut *connection)
        .await?;
        forget_dead_in_tx(connection, ACTIONS, &[key]).await?;
        let retries = row.retries + 1;
        made.store(retries, Ordering::Relaxed);
        if row.action_config.is_some() {
            let job = job(task_id, retries, row.priority, row.concurrency_key);
            enqueue_in_tx(connection, ACTIONS, None, &[job]).await?;
        } else {
            let message = message(task_id, &row.task_type, row.schedule.as_deref(), retries);
            self.send_in_tx(connection, message).await?;
        }
        Ok(Done::Followed)
    }
}

async fn cancel_in_tx(connection: &mut PgConnection, task_id: i64) -> Result<Done> {
    let Some(row) = lock(connection, task_id).await? else { return Ok(Done::Unknown) };
    if row.is(Status::Cancelled) {
        return Ok(Done::Followed);
    }
    if !row.is(Status::Waiting) && !row.is(Status::Running) {
        return Ok(Done::Not(row.status));
    }
    sqlx::query(
        "WITH told AS (SELECT pg_notify($2, $1::text))
         UPDATE tasks SET status = 'cancelled', ended_at = now() FROM told WHERE task_id = $1 -- cancel_task",
    )
    .bind(task_id)
    .bind(CANCELLED_CHANNEL)
    .execute(&mut *connection)
    .await?;
    // Its job finds it ended, and makes room for others with its concurrency key.
    hurry_in_tx(connection, ACTIONS, &[job_key(task_id, row.retries)]).await?;
    Ok(Done::Followed)
}

async fn lock(connection: &mut PgConnection, task_id: i64) -> Result<Option<Row>> {
    let row = sqlx::query_as(
        "SELECT status, task_type, schedule, action_config, priority, concurrency_key, retries
         FROM tasks WHERE task_id = $1 FOR UPDATE -- lock_task",
    );
    Ok(row.bind(task_id).fetch_optional(connection).await?)
}
