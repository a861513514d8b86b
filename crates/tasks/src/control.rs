//! Cancelling and manually retrying tasks, on an operator's request.

use std::sync::atomic::{AtomicI32, Ordering};

use audit::{AuditAction, AuditActor, AuditDifference, AuditEntry, record_entry};
use queue::{delete_dead_jobs_in_tx, enqueue_jobs_in_tx, hurry_jobs_in_tx};
use sqlx::PgConnection;
use store::Result;

use crate::action::{ACTION_TASK_QUEUE, new_task_job, task_job_key};
use crate::task::{TaskRef, new_task_message};
use crate::{TaskId, TaskStatus, TaskStore};

/// `NOTIFY` channel of cancellations; the payload is the task id.
pub const CANCELLED_CHANNEL: &str = "tasks_cancelled";

/// Outcome of a cancel or retry request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskControlOutcome {
    /// Applied now, or by an earlier request.
    Applied,
    /// No such task exists.
    UnknownTask,
    /// The task's status, which does not allow the request.
    ForbiddenByStatus(String),
}

impl TaskControlOutcome {
    /// Whether the status forbids the request; an earlier attempt at this transaction may have set
    /// that status.
    fn is_refused(&self) -> bool {
        matches!(self, TaskControlOutcome::ForbiddenByStatus(_))
    }
}

#[derive(store::FromRow)]
struct TaskControlRow {
    status: String,
    task_type: String,
    schedule: Option<String>,
    action_config: Option<String>,
    priority: i32,
    concurrency_key: Option<String>,
    retries: i32,
}

impl TaskControlRow {
    fn has_status(&self, status: TaskStatus) -> bool {
        self.status == status.name()
    }

    /// Records the act of an operator on this task.
    async fn record(
        &self,
        connection: &mut PgConnection,
        task_id: TaskId,
        actor: &AuditActor,
        action: AuditAction,
        retries: i32,
    ) -> Result<()> {
        let status_after = match action {
            AuditAction::TaskCancel => TaskStatus::Cancelled,
            _ => TaskStatus::Waiting,
        };
        let mut difference = AuditDifference::default()
            .with_fact("task_type", self.task_type.as_str())
            .with_fact("retries", retries);
        if !self.has_status(status_after) {
            let (before, after) = (self.status.as_str().into(), status_after.name().into());
            difference = difference.with_field("status", Some(before), Some(after));
        }
        record_entry(connection, actor, &AuditEntry::new(action, "task", task_id, &difference))
            .await
    }
}

impl TaskStore {
    /// Cancels a task that has not ended: no attempt begins any more, and a running one is dropped
    /// at its next await.
    pub async fn cancel(&self, task_id: TaskId, actor: &AuditActor) -> Result<TaskControlOutcome> {
        store::transaction("cancel_task", (task_id, actor.clone()))
            .run_refusable(
                &self.pool,
                TaskControlOutcome::is_refused,
                |connection, (task_id, actor)| Box::pin(cancel_in_tx(connection, *task_id, actor)),
            )
            .await
    }

    /// Retries a failed or cancelled task with a fresh attempt count; a task waiting for its next
    /// attempt becomes due now.
    pub async fn retry(&self, task_id: TaskId, actor: &AuditActor) -> Result<TaskControlOutcome> {
        // `retries` as set by an attempt at this transaction whose commit outcome may be unknown.
        let own_retries = AtomicI32::new(i32::MAX);
        store::transaction("retry_task", (self.clone(), task_id, actor.clone(), own_retries))
            .run_refusable(
                &self.pool,
                TaskControlOutcome::is_refused,
                |connection, (tasks, task_id, actor, own_retries)| {
                    Box::pin(tasks.retry_in_tx(connection, *task_id, actor, own_retries))
                },
            )
            .await
    }

    async fn retry_in_tx(
        &self,
        connection: &mut PgConnection,
        task_id: TaskId,
        actor: &AuditActor,
        own_retries: &AtomicI32,
    ) -> Result<TaskControlOutcome> {
        let Some(row) = lock_task(connection, task_id).await? else {
            return Ok(TaskControlOutcome::UnknownTask);
        };
        if row.retries >= own_retries.load(Ordering::Relaxed) {
            // Committed by an earlier attempt of this call whose answer was lost.
            return Ok(TaskControlOutcome::Applied);
        }
        let key = task_job_key(TaskRef { task_id, retries: row.retries });
        if row.has_status(TaskStatus::Waiting) {
            hurry_jobs_in_tx(connection, ACTION_TASK_QUEUE, &[key]).await?;
            row.record(connection, task_id, actor, AuditAction::TaskRetry, row.retries).await?;
            return Ok(TaskControlOutcome::Applied);
        }
        if !row.has_status(TaskStatus::Failed) && !row.has_status(TaskStatus::Cancelled) {
            return Ok(TaskControlOutcome::ForbiddenByStatus(row.status));
        }
        store::statement(
            "revive_task",
            "UPDATE tasks SET status = 'waiting', retries = retries + 1, attempts_before = attempts, postponed = 0,
                    ended_at = NULL, reported = NULL WHERE task_id = $1",
        )
        .bind(task_id)
        .execute(&mut *connection)
        .await?;
        delete_dead_jobs_in_tx(connection, ACTION_TASK_QUEUE, &[key]).await?;
        let retried = TaskRef { task_id, retries: row.retries + 1 };
        own_retries.store(retried.retries, Ordering::Relaxed);
        row.record(connection, task_id, actor, AuditAction::TaskRetry, retried.retries).await?;
        if row.action_config.is_some() {
            let job = new_task_job(retried, row.priority, row.concurrency_key);
            enqueue_jobs_in_tx(connection, ACTION_TASK_QUEUE, None, &[job]).await?;
        } else {
            let message = new_task_message(retried, &row.task_type, row.schedule.as_deref());
            self.send_in_tx(connection, message).await?;
        }
        Ok(TaskControlOutcome::Applied)
    }
}

async fn cancel_in_tx(
    connection: &mut PgConnection,
    task_id: TaskId,
    actor: &AuditActor,
) -> Result<TaskControlOutcome> {
    let Some(row) = lock_task(connection, task_id).await? else {
        return Ok(TaskControlOutcome::UnknownTask);
    };
    if row.has_status(TaskStatus::Cancelled) {
        return Ok(TaskControlOutcome::Applied);
    }
    if !row.has_status(TaskStatus::Waiting) && !row.has_status(TaskStatus::Running) {
        return Ok(TaskControlOutcome::ForbiddenByStatus(row.status));
    }
    store::statement(
        "cancel_task",
        "WITH told AS (SELECT pg_notify($2, $1::text))
         UPDATE tasks SET status = 'cancelled', ended_at = now() FROM told WHERE task_id = $1",
    )
    .bind(task_id)
    .bind(CANCELLED_CHANNEL)
    .execute(&mut *connection)
    .await?;
    // The job becomes due, finds the task ended, and releases its concurrency key.
    let key = task_job_key(TaskRef { task_id, retries: row.retries });
    hurry_jobs_in_tx(connection, ACTION_TASK_QUEUE, &[key]).await?;
    row.record(connection, task_id, actor, AuditAction::TaskCancel, row.retries).await?;
    Ok(TaskControlOutcome::Applied)
}

async fn lock_task(
    connection: &mut PgConnection,
    task_id: TaskId,
) -> Result<Option<TaskControlRow>> {
    store::statement(
        "lock_task",
        "SELECT status, task_type, schedule, action_config, priority, concurrency_key, retries
         FROM tasks WHERE task_id = $1 FOR UPDATE",
    )
    .bind(task_id)
    .fetch_optional(connection)
    .await
}
