//! What operators look at: background tasks that failed.

use sqlx::PgPool;
use store::Result;

/// Why tasks were given up, told once for all of a type to which the same happened.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct TaskFailureRow {
    /// Their type.
    pub task_type: String,
    /// What happened.
    pub error: String,
    /// To how many tasks.
    pub tasks: i64,
    /// The id of the latest of them.
    pub latest: i64,
    /// How long ago that ended, in seconds by the database's clock.
    pub seconds_ago: f64,
}

/// At most `limit` of the last day, the latest first.
pub async fn recent_task_failures(pool: &PgPool, limit: i64) -> Result<Vec<TaskFailureRow>> {
    store::run_statement(pool, "recent_task_failures", move |connection| {
        Box::pin(async move {
            Ok(sqlx::query_as(RECENT_TASK_FAILURES_SQL).bind(limit).fetch_all(connection).await?)
        })
    })
    .await
}

const RECENT_TASK_FAILURES_SQL: &str = "-- recent_task_failures
SELECT task_type, coalesce(error, '') AS error, count(*) AS tasks, max(task_id) AS latest,
       greatest(extract(epoch FROM now() - max(ended_at)), 0)::float8 AS seconds_ago
FROM tasks WHERE ended_at > now() - interval '1 day' AND status = 'failed'
GROUP BY task_type, error ORDER BY max(ended_at) DESC LIMIT $1";
