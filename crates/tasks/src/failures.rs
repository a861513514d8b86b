//! Recent task failures, for operators.

use sqlx::PgPool;
use store::Result;

use crate::TaskId;

/// Failed tasks, grouped by type and error.
#[derive(Debug, Clone, PartialEq, store::FromRow)]
pub struct TaskFailureRow {
    /// Type of the failed tasks.
    pub task_type: String,
    /// Error of their last attempt.
    pub error: String,
    /// Number of failed tasks.
    pub tasks: i64,
    /// Highest id of the failed tasks.
    pub latest: TaskId,
    /// Seconds since the latest failure, by the database's clock.
    pub seconds_ago: f64,
}

/// At most `limit` groups of the last day, latest first.
pub async fn recent_task_failures(pool: &PgPool, limit: i64) -> Result<Vec<TaskFailureRow>> {
    store::statement("recent_task_failures", RECENT_TASK_FAILURES_SQL)
        .bind(limit)
        .fetch_all(pool)
        .await
}

const RECENT_TASK_FAILURES_SQL: &str =
    "SELECT task_type, coalesce(error, '') AS error, count(*) AS tasks, max(task_id) AS latest,
       greatest(extract(epoch FROM now() - max(ended_at)), 0)::float8 AS seconds_ago
FROM tasks WHERE ended_at > now() - interval '1 day' AND status = 'failed'
GROUP BY task_type, error ORDER BY max(ended_at) DESC LIMIT $1";
