//! What operators look at: how much waits, and for how long.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use store::Result;

/// A queue's state at a glance.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct Depth {
    /// The queue.
    pub queue: String,
    /// Jobs that are due or in work.
    pub due: i64,
    /// Jobs that wait for their time or for their group.
    pub delayed: i64,
    /// Dead letters.
    pub dead: i64,
    /// When the oldest job still in the queue was enqueued.
    pub oldest: Option<DateTime<Utc>>,
    /// Why the job that was changed last has failed.
    pub last_error: Option<String>,
}

/// All queues that hold anything, by name. Counts every job: for people, not for loops.
pub async fn depths(pool: &PgPool) -> Result<Vec<Depth>> {
    Ok(sqlx::query_as(
        "-- queue_depths
        WITH waiting AS (
            SELECT queue, count(*) FILTER (WHERE run_at <= now() AND NOT blocked) AS due,
                   count(*) FILTER (WHERE run_at > now() OR blocked) AS delayed, min(enqueued_at) AS oldest,
                   (array_agg(last_error ORDER BY run_at DESC) FILTER (WHERE last_error IS NOT NULL))[1] AS last_error
            FROM jobs GROUP BY queue
        ), dead AS (
            SELECT queue, count(*) AS dead FROM dead_jobs GROUP BY queue
        )
        SELECT queue, coalesce(due, 0) AS due, coalesce(delayed, 0) AS delayed, coalesce(dead, 0) AS dead, oldest, last_error
        FROM waiting FULL JOIN dead USING (queue) ORDER BY queue",
    )
    .fetch_all(pool)
    .await?)
}
