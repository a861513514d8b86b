//! Attempts at tasks: begun, and ended, each in one transaction with the event that tells of it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;
use sqlx::{PgConnection, PgPool};
use store::{Result, run_tx};

use crate::Status;
use crate::report::{RUNNING, Report, Reporter, ended};

/// An attempt that has begun.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Begun {
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
pub(crate) enum Begin {
    Begun(Begun),
    /// It has ended, or was retried since.
    Ended,
    /// There is no such task.
    Unknown,
}

#[derive(sqlx::FromRow)]
struct BegunRow {
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
pub(crate) async fn begin(
    pool: &PgPool,
    task_id: i64,
    retries: i32,
    reporter: &Arc<dyn Reporter>,
) -> Result<Begin> {
    let reporter = reporter.clone();
    run_tx(pool, "begin_task", move |connection| {
        let reporter = reporter.clone();
        Box::pin(async move { begin_in_tx(connection, task_id, retries, &*reporter).await })
    })
    .await
}

async fn begin_in_tx(
    connection: &mut PgConnection,
    task_id: i64,
    retries: i32,
    reporter: &dyn Reporter,
) -> Result<Begin> {
    let row: Option<BegunRow> = sqlx::query_as(BEGIN)
        .bind(task_id)
        .bind(retries)
        .bind(RUNNING)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else {
        let known = sqlx::query_scalar("SELECT EXISTS (SELECT FROM tasks WHERE task_id = $1) -- task_exists");
        let known: bool = known.bind(task_id).fetch_one(connection).await?;
        return Ok(if known { Begin::Ended } else { Begin::Unknown });
    };
    if let Some(action_config) = row.action_config.filter(|_| row.fresh) {
        let report = Report { task_id, action_config, status: RUNNING, error: None, depth: row.depth };
        reporter.report(connection, &report).await?;
    }
    Ok(Begin::Begun(Begun {
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
pub(crate) struct End {
    pub(crate) task_id: i64,
    /// See [`crate::task::called_for`].
    pub(crate) retries: i32,
    pub(crate) number: u32,
    pub(crate) status: Status,
    pub(crate) error: Option<String>,
    pub(crate) outcome: Option<Json>,
    /// Whether it was only not its turn: that counts as no attempt.
    pub(crate) waits: bool,
    /// How long somebody else has put it off.
    pub(crate) postponed: Duration,
}

/// What became of an attempt's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It is stored.
    Stored,
    /// Nothing is changed: another attempt has begun since, and the task goes on. Whoever began it may have lost the task's
    /// job or message before, so nobody may drop those.
    Superseded,
    /// Nothing is changed: the task has ended, or was retried since.
    Over,
}

/// Ends an attempt, if it is the latest one and the task has not ended.
pub(crate) async fn end(pool: &PgPool, end: End, reporter: &Arc<dyn Reporter>) -> Result<Ending> {
    let (end, reporter) = (Arc::new(end), reporter.clone());
    run_tx(pool, "end_task", move |connection| {
        let (end, reporter) = (end.clone(), reporter.clone());
        Box::pin(async move { end_in_tx(connection, &end, &*reporter).await })
    })
    .await
}

async fn end_in_tx(connection: &mut PgConnection, end: &End, reporter: &dyn Reporter) -> Result<Ending> {
    let status = ended(end.status);
    let row: Option<(Option<String>, i16, bool)> = sqlx::query_as(END)
        .bind(end.task_id)
        .bind(end.number.cast_signed())
        .bind(end.status.name())
        .bind(&end.error)
        .bind(end.outcome.as_ref().map(Json::to_string))
        .bind(status)
        .bind(end.waits)
        .bind(end.postponed.as_secs_f64())
        .fetch_optional(&mut *connection)
        .await?;
    let Some((action_config, depth, fresh)) = row else {
        let goes_on = sqlx::query_scalar(GOES_ON).bind(end.task_id).bind(end.retries);
        let goes_on: bool = goes_on.fetch_one(connection).await?;
        return Ok(if goes_on { Ending::Superseded } else { Ending::Over });
    };
    if let (Some(action_config), Some(status), true) = (action_config, status, fresh) {
        let error = end.error.clone();
        let report = Report { task_id: end.task_id, action_config, status, error, depth };
        reporter.report(connection, &report).await?;
    }
    Ok(Ending::Stored)
}

const GOES_ON: &str = "SELECT EXISTS (SELECT FROM tasks WHERE task_id = $1 AND retries = $2
    AND status IN ('waiting', 'running')) -- task_goes_on";

/// A repetition whose first answer was lost has been reported already.
const BEGIN: &str = "-- begin_task
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
const END: &str = "-- end_task
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
