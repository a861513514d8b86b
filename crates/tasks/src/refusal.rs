//! Tasks whose message the queue rejects permanently: they fail, since no worker would ever begin
//! them.

use store::{Result, to_storable_text};

use crate::TaskStore;
use crate::task::TaskRef;

impl TaskStore {
    /// Fails the task of a rejected message if it waits for that message. Returns whether
    /// `deduplication`, the message's id, names a task.
    pub async fn fail_refused_task(&self, deduplication: &str, reason: &str) -> Result<bool> {
        let Some(TaskRef { task_id, retries }) = parse_deduplication(deduplication) else {
            return Ok(false);
        };
        store::statement(
            "refuse_task",
            "UPDATE tasks SET status = 'failed', error = $3, ended_at = now()
             WHERE task_id = $1 AND retries = $2 AND status = 'waiting'",
        )
        .bind(task_id)
        .bind(retries)
        .bind(to_storable_text(reason))
        .execute(&self.pool)
        .await?;
        Ok(true)
    }
}

fn parse_deduplication(deduplication: &str) -> Option<TaskRef> {
    let mut parts = deduplication.strip_prefix("task/")?.split('/');
    let task_id = parts.next()?.parse().ok()?;
    let retries = parts.next().map_or(Ok(0), str::parse).ok()?;
    Some(TaskRef { task_id, retries })
}
