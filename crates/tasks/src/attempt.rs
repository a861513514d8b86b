//! Task attempts: begin and end.
//!
//! - Cost: one transaction each, together with the status event.
//! - Promise: only the latest attempt can end a task (the attempt number is a fencing token). A
//!   retry after commit outcome unknown reports no status twice; a repeated begin only takes
//!   another number.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;
use sqlx::{PgConnection, PgPool};
use store::Result;

use crate::TaskStatus;
use crate::report::{STATUS_RUNNING, TaskStatusReport, TaskStatusReporter, reported_end_status};
use crate::task::TaskRef;

/// An attempt that has begun.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BegunAttempt {
    /// Attempt number from 1, the fencing token: only the latest attempt can end the task.
    pub(crate) number: u32,
    /// Attempt number since the last manual retry.
    pub(crate) since_retry: u32,
    pub(crate) task_type: String,
    pub(crate) params: Json,
    /// Limit of failed attempts set on the task.
    pub(crate) max_attempts: Option<u32>,
    /// Depth in the chain of events and tasks.
    pub(crate) depth: i16,
    /// Total postponement since the last manual retry.
    pub(crate) postponed: Duration,
}

/// Result of beginning an attempt.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum BeginAttemptOutcome {
    Begun(BegunAttempt),
    /// The task has ended, or was retried manually since.
    TaskEnded,
    /// No such task exists.
    UnknownTask,
}

#[derive(store::FromRow)]
struct BegunAttemptRow {
    attempts: i32,
    attempts_before: i32,
    task_type: String,
    params: String,
    action_config: Option<String>,
    depth: i16,
    max_attempts: Option<i32>,
    postponed: f64,
    fresh: bool,
}

/// Begins an attempt: earlier attempts can no longer end the task.
pub(crate) async fn begin_attempt(
    pool: &PgPool,
    task: TaskRef,
    reporter: &Arc<dyn TaskStatusReporter>,
) -> Result<BeginAttemptOutcome> {
    store::transaction("begin_task", (task, reporter.clone()))
        .run(pool, |connection, (task, reporter)| {
            Box::pin(begin_attempt_in_tx(connection, *task, &**reporter))
        })
        .await
}

async fn begin_attempt_in_tx(
    connection: &mut PgConnection,
    task: TaskRef,
    reporter: &dyn TaskStatusReporter,
) -> Result<BeginAttemptOutcome> {
    let TaskRef { task_id, retries } = task;
    let row: Option<BegunAttemptRow> = store::statement("begin_task", BEGIN_ATTEMPT_SQL)
        .bind(task_id)
        .bind(retries)
        .bind(STATUS_RUNNING)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else {
        let known: bool =
            store::statement("task_exists", "SELECT EXISTS (SELECT FROM tasks WHERE task_id = $1)")
                .bind(task_id)
                .fetch_value(connection)
                .await?;
        return Ok(if known {
            BeginAttemptOutcome::TaskEnded
        } else {
            BeginAttemptOutcome::UnknownTask
        });
    };
    if let Some(action_config) = row.action_config.filter(|_| row.fresh) {
        let report = TaskStatusReport {
            task_id,
            action_config,
            status: STATUS_RUNNING,
            error: None,
            depth: row.depth,
        };
        reporter.report(connection, &report).await?;
    }
    Ok(BeginAttemptOutcome::Begun(BegunAttempt {
        number: row.attempts.unsigned_abs(),
        since_retry: (row.attempts - row.attempts_before).unsigned_abs(),
        task_type: row.task_type,
        // Infallible: Postgres has validated the JSON.
        params: row.params.parse().unwrap_or_default(),
        max_attempts: row.max_attempts.map(i32::unsigned_abs),
        depth: row.depth,
        postponed: Duration::try_from_secs_f64(row.postponed).unwrap_or(Duration::MAX),
    }))
}

/// The end of an attempt.
#[derive(Debug, Clone)]
pub(crate) struct AttemptEnd {
    pub(crate) task: TaskRef,
    pub(crate) number: u32,
    pub(crate) status: TaskStatus,
    pub(crate) error: Option<String>,
    pub(crate) outcome: Option<Json>,
    /// Whether the attempt was deferred and does not count.
    pub(crate) is_deferred: bool,
    /// Postponement that this attempt adds, requested by an external party.
    pub(crate) postponed: Duration,
}

/// Result of ending an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndAttemptOutcome {
    /// The end is stored.
    Stored,
    /// Nothing changed: a newer attempt has begun and the task continues. Its worker may already
    /// have lost the job or message, so neither may be deleted.
    Superseded,
    /// Nothing changed: the task has ended, or was retried manually since.
    TaskEnded,
}

/// Ends an attempt if it is the latest and the task has not ended.
pub(crate) async fn end_attempt(
    pool: &PgPool,
    end: AttemptEnd,
    reporter: &Arc<dyn TaskStatusReporter>,
) -> Result<EndAttemptOutcome> {
    store::transaction("end_task", (end, reporter.clone()))
        .run(pool, |connection, (end, reporter)| {
            Box::pin(end_attempt_in_tx(connection, end, &**reporter))
        })
        .await
}

async fn end_attempt_in_tx(
    connection: &mut PgConnection,
    end: &AttemptEnd,
    reporter: &dyn TaskStatusReporter,
) -> Result<EndAttemptOutcome> {
    let status = reported_end_status(end.status);
    let row: Option<(Option<String>, i16, bool)> = store::statement("end_task", END_ATTEMPT_SQL)
        .bind(end.task.task_id)
        .bind(end.number.cast_signed())
        .bind(end.status.name())
        .bind(&end.error)
        .bind(end.outcome.as_ref().map(Json::to_string))
        .bind(status)
        .bind(end.is_deferred)
        .bind(end.postponed.as_secs_f64())
        .fetch_optional(&mut *connection)
        .await?;
    let Some((action_config, depth, fresh)) = row else {
        let goes_on: bool = store::statement("task_goes_on", TASK_GOES_ON_SQL)
            .bind(end.task.task_id)
            .bind(end.task.retries)
            .fetch_value(connection)
            .await?;
        return Ok(if goes_on {
            EndAttemptOutcome::Superseded
        } else {
            EndAttemptOutcome::TaskEnded
        });
    };
    if let (Some(action_config), Some(status), true) = (action_config, status, fresh) {
        let error = end.error.clone();
        let report =
            TaskStatusReport { task_id: end.task.task_id, action_config, status, error, depth };
        reporter.report(connection, &report).await?;
    }
    Ok(EndAttemptOutcome::Stored)
}

const TASK_GOES_ON_SQL: &str =
    "SELECT EXISTS (SELECT FROM tasks WHERE task_id = $1 AND retries = $2
    AND status IN ('waiting', 'running'))";

/// A retry after a lost answer finds `reported` set and does not report again.
const BEGIN_ATTEMPT_SQL: &str = "WITH found AS MATERIALIZED (
    SELECT task_id, reported FROM tasks
    WHERE task_id = $1 AND retries = $2 AND status IN ('waiting', 'running') FOR UPDATE
)
UPDATE tasks t
SET status = 'running', attempts = attempts + 1, started_at = coalesce(started_at, now()), reported = $3
FROM found f WHERE t.task_id = f.task_id
RETURNING t.attempts, t.attempts_before, t.task_type, t.params::text, t.action_config, t.depth, t.max_attempts,
          t.postponed, f.reported IS DISTINCT FROM $3 AS fresh";

/// A retry after a lost answer matches its stored end and adds no postponement.
const END_ATTEMPT_SQL: &str = "WITH found AS MATERIALIZED (
    SELECT task_id, reported, status FROM tasks
    WHERE task_id = $1 AND attempts = $2 AND status IN ('running', $3) FOR UPDATE
)
UPDATE tasks t
SET status = $3, error = $4, outcome = $5::text::json, reported = coalesce($6, t.reported),
    attempts_before = t.attempts_before + ($7 AND f.status = 'running')::int,
    waits = t.waits + ($7 AND f.status = 'running')::int,
    postponed = t.postponed + CASE WHEN f.status = 'running' THEN $8 ELSE 0 END,
    ended_at = CASE WHEN $3 NOT IN ('waiting', 'running') THEN coalesce(t.ended_at, now()) END
FROM found f WHERE t.task_id = f.task_id
RETURNING t.action_config, t.depth, $6 IS NOT NULL AND f.reported IS DISTINCT FROM $6";
