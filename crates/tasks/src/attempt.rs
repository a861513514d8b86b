//! Attempts at tasks: begun, and ended, each in one transaction with the event that tells of it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;
use sqlx::{PgConnection, PgPool};
use store::{Result, run_tx};

use crate::TaskStatus;
use crate::report::{STATUS_RUNNING, TaskStatusReport, TaskStatusReporter, reported_end_status};

/// An attempt that has begun.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BegunAttempt {
    /// Which attempt, from 1: only the latest can end the task.
    pub(crate) number: u32,
    /// Which attempt since the task was last retried by hand.
    pub(crate) since_retry: u32,
    pub(crate) task_type: String,
    pub(crate) params: Json,
    /// The task's own limit of failed attempts.
    pub(crate) max_attempts: Option<u32>,
    /// Its place in its chain.
    pub(crate) depth: i16,
    /// How long it has been postponed since it was last retried by hand.
    pub(crate) postponed: Duration,
}

/// Whether there was anything to begin.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum BeginAttemptOutcome {
    Begun(BegunAttempt),
    /// It has ended, or was retried since.
    TaskEnded,
    /// There is no such task.
    UnknownTask,
}

#[derive(sqlx::FromRow)]
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

/// Begins an attempt: the attempts before it can no longer end the task. `retries`: see [`crate::task::called_for`].
pub(crate) async fn begin_attempt(
    pool: &PgPool,
    task_id: i64,
    retries: i32,
    reporter: &Arc<dyn TaskStatusReporter>,
) -> Result<BeginAttemptOutcome> {
    let reporter = reporter.clone();
    run_tx(pool, "begin_task", move |connection| {
        let reporter = reporter.clone();
        Box::pin(async move { begin_attempt_in_tx(connection, task_id, retries, &*reporter).await })
    })
    .await
}

async fn begin_attempt_in_tx(
    connection: &mut PgConnection,
    task_id: i64,
    retries: i32,
    reporter: &dyn TaskStatusReporter,
) -> Result<BeginAttemptOutcome> {
    let row: Option<BegunAttemptRow> = sqlx::query_as(BEGIN_ATTEMPT_SQL)
        .bind(task_id)
        .bind(retries)
        .bind(STATUS_RUNNING)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else {
        let known = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM tasks WHERE task_id = $1) -- task_exists",
        );
        let known: bool = known.bind(task_id).fetch_one(connection).await?;
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
        // Postgres has checked that it is JSON.
        params: row.params.parse().unwrap_or_default(),
        max_attempts: row.max_attempts.map(i32::unsigned_abs),
        depth: row.depth,
        postponed: Duration::try_from_secs_f64(row.postponed).unwrap_or(Duration::MAX),
    }))
}

/// How an attempt ends.
#[derive(Debug, Clone)]
pub(crate) struct AttemptEnd {
    pub(crate) task_id: i64,
    /// See [`crate::task::called_for`].
    pub(crate) retries: i32,
    pub(crate) number: u32,
    pub(crate) status: TaskStatus,
    pub(crate) error: Option<String>,
    pub(crate) outcome: Option<Json>,
    /// Whether it was only not its turn: that counts as no attempt.
    pub(crate) is_deferred: bool,
    /// How long somebody else has put it off.
    pub(crate) postponed: Duration,
}

/// What became of an attempt's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndAttemptOutcome {
    /// It is stored.
    Stored,
    /// Nothing is changed: another attempt has begun since, and the task goes on. Whoever began it may have lost the task's
    /// job or message before, so nobody may drop those.
    Superseded,
    /// Nothing is changed: the task has ended, or was retried since.
    TaskEnded,
}

/// Ends an attempt, if it is the latest one and the task has not ended.
pub(crate) async fn end_attempt(
    pool: &PgPool,
    end: AttemptEnd,
    reporter: &Arc<dyn TaskStatusReporter>,
) -> Result<EndAttemptOutcome> {
    let (end, reporter) = (Arc::new(end), reporter.clone());
    run_tx(pool, "end_task", move |connection| {
        let (end, reporter) = (end.clone(), reporter.clone());
        Box::pin(async move { end_attempt_in_tx(connection, &end, &*reporter).await })
    })
    .await
}

async fn end_attempt_in_tx(
    connection: &mut PgConnection,
    end: &AttemptEnd,
    reporter: &dyn TaskStatusReporter,
) -> Result<EndAttemptOutcome> {
    let status = reported_end_status(end.status);
    let row: Option<(Option<String>, i16, bool)> = sqlx::query_as(END_ATTEMPT_SQL)
        .bind(end.task_id)
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
        let goes_on = sqlx::query_scalar(TASK_GOES_ON_SQL).bind(end.task_id).bind(end.retries);
        let goes_on: bool = goes_on.fetch_one(connection).await?;
        return Ok(if goes_on {
            EndAttemptOutcome::Superseded
        } else {
            EndAttemptOutcome::TaskEnded
        });
    };
    if let (Some(action_config), Some(status), true) = (action_config, status, fresh) {
        let error = end.error.clone();
        let report = TaskStatusReport { task_id: end.task_id, action_config, status, error, depth };
        reporter.report(connection, &report).await?;
    }
    Ok(EndAttemptOutcome::Stored)
}

const TASK_GOES_ON_SQL: &str =
    "SELECT EXISTS (SELECT FROM tasks WHERE task_id = $1 AND retries = $2
    AND status IN ('waiting', 'running')) -- task_goes_on";

/// A repetition whose first answer was lost has been reported already.
const BEGIN_ATTEMPT_SQL: &str = "-- begin_task
WITH found AS MATERIALIZED (
    SELECT task_id, reported FROM tasks
    WHERE task_id = $1 AND retries = $2 AND status IN ('waiting', 'running') FOR UPDATE
)
UPDATE tasks t
SET status = 'running', attempts = attempts + 1, started_at = coalesce(started_at, now()), reported = $3
FROM found f WHERE t.task_id = f.task_id
RETURNING t.attempts, t.attempts_before, t.task_type, t.params::text, t.action_config, t.depth, t.max_attempts,
          t.postponed, f.reported IS DISTINCT FROM $3 AS fresh";

/// A repetition whose first answer was lost finds its own end, and postpones nothing once more.
const END_ATTEMPT_SQL: &str = "-- end_task
WITH found AS MATERIALIZED (
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
