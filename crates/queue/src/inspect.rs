//! Queue monitoring: depth, age and errors, for operators.

use sqlx::PgPool;
use store::{LONG_OPERATION_TIMEOUT, PgOperation, Result, statement};

/// Depth of one queue. Ages are by the database's clock.
#[derive(Debug, Clone, PartialEq, store::FromRow)]
pub struct QueueDepth {
    /// Name of a job queue, of a FIFO queue (with its `.fifo` suffix), or `outbox/PLACE` for
    /// messages on their way to a queue outside Postgres.
    pub queue: String,
    /// Number of jobs or messages that are due or in work.
    pub due: i64,
    /// Number of jobs or messages waiting for their time or their group.
    pub delayed: i64,
    /// Number of dead letters.
    pub dead: i64,
    /// Age of the oldest entry in seconds.
    pub oldest_seconds: Option<f64>,
    /// Last error of a waiting entry; for jobs, of the one retried last.
    pub last_error: Option<String>,
}

/// Error of jobs, aggregated by message.
#[derive(Debug, Clone, PartialEq, store::FromRow)]
pub struct JobErrorSummary {
    /// Name of the queue.
    pub queue: String,
    /// `true`: the jobs are dead letters; `false`: they wait for a retry.
    pub dead: bool,
    /// Error message of the jobs.
    pub error: String,
    /// Number of jobs with this error.
    pub jobs: i64,
    /// Key of one of these jobs.
    pub example: Option<String>,
    /// Seconds since the latest of them became a dead letter.
    pub seconds_ago: Option<f64>,
}

/// Depths of all non-empty queues, by name. Counts every job and message: for
/// operators, not for polling.
pub async fn read_queue_depths(pool: &PgPool) -> Result<Vec<QueueDepth>> {
    let operation =
        PgOperation::named("queue_depths").with_timeout(LONG_OPERATION_TIMEOUT).expensive();
    statement(operation, QUEUE_DEPTHS_SQL).fetch_all(pool).await
}

/// Errors of jobs: at most `limit` summaries of waiting jobs, most frequent first, and as many of
/// dead letters, latest first. Reads every job, like [`read_queue_depths`].
pub async fn read_job_errors(pool: &PgPool, limit: i64) -> Result<Vec<JobErrorSummary>> {
    let operation =
        PgOperation::named("queue_complaints").with_timeout(LONG_OPERATION_TIMEOUT).expensive();
    statement(operation, QUEUE_COMPLAINTS_SQL).bind(limit).fetch_all(pool).await
}

const QUEUE_DEPTHS_SQL: &str = "\
WITH waiting AS (
    SELECT queue, count(*) FILTER (WHERE run_at <= now() AND NOT blocked) AS due,
           count(*) FILTER (WHERE run_at > now() OR blocked) AS delayed, min(enqueued_at) AS oldest,
           (array_agg(last_error ORDER BY run_at DESC) FILTER (WHERE last_error IS NOT NULL))[1] AS last_error
    FROM jobs GROUP BY queue
), dead AS (
    SELECT queue, count(*) AS dead FROM dead_jobs GROUP BY queue
), messages AS (
    SELECT queue_id, count(*) FILTER (WHERE head) AS due, count(*) FILTER (WHERE NOT head) AS delayed,
           count(*) AS held, min(sent_at) AS oldest
    FROM fifo_messages GROUP BY queue_id
), every AS (
    SELECT queue, due, delayed, dead, oldest, last_error FROM waiting FULL JOIN dead USING (queue)
    UNION ALL
    SELECT q.name, m.due, m.delayed, d.held, m.oldest, NULL
    FROM fifo_queues q
    LEFT JOIN messages m ON m.queue_id = q.queue_id
    LEFT JOIN messages d ON d.queue_id = q.dead_letters
    WHERE (m.held IS NOT NULL OR d.held IS NOT NULL)
      AND NOT EXISTS (SELECT FROM fifo_queues o WHERE o.dead_letters = q.queue_id)
    UNION ALL
    SELECT 'outbox/' || place, count(*) FILTER (WHERE next_at <= now()), count(*) FILTER (WHERE next_at > now()), 0,
           min(created_at), (array_agg(last_error ORDER BY next_at DESC) FILTER (WHERE last_error IS NOT NULL))[1]
    FROM fifo_outbox GROUP BY place
)
SELECT queue, coalesce(due, 0) AS due, coalesce(delayed, 0) AS delayed, coalesce(dead, 0) AS dead,
       greatest(extract(epoch FROM now() - oldest), 0)::float8 AS oldest_seconds, last_error
FROM every ORDER BY queue COLLATE \"C\"";

const QUEUE_COMPLAINTS_SQL: &str = "\
(SELECT queue, false AS dead, last_error AS error, count(*) AS jobs, max(job_key) AS example, NULL::float8 AS seconds_ago
 FROM jobs WHERE last_error IS NOT NULL GROUP BY queue, last_error ORDER BY count(*) DESC, last_error LIMIT $1)
UNION ALL
(SELECT queue, true, reason, count(*), max(job_key), greatest(extract(epoch FROM now() - max(died_at)), 0)::float8
 FROM dead_jobs GROUP BY queue, reason ORDER BY max(died_at) DESC, reason LIMIT $1)";
