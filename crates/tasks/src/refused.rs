//! Tasks whose message no queue takes: they fail, as nobody will ever begin them.

use store::{Result, run, storable};

use crate::Tasks;

impl Tasks {
    /// Fails the task that a message is about, if that waits for it. `deduplication`: the message's. Whether it is a task's.
    pub async fn refused(&self, deduplication: &str, reason: &str) -> Result<bool> {
        let Some((task_id, retries)) = about(deduplication) else { return Ok(false) };
        let reason = storable(reason);
        run(&self.pool, "refuse_task", move |connection| {
            let reason = reason.clone();
            Box::pin(async move {
                sqlx::query(
                    "UPDATE tasks SET status = 'failed', error = $3, ended_at = now()
                     WHERE task_id = $1 AND retries = $2 AND status = 'waiting' -- refuse_task",
                )
                .bind(task_id)
                .bind(retries)
                .bind(reason)
                .execute(connection)
                .await?;
                Ok(())
            })
        })
        .await?;
        Ok(true)
    }
}

fn about(deduplication: &str) -> Option<(i64, i32)> {
    let mut parts = deduplication.strip_prefix("task/")?.split('/');
    let task_id = parts.next()?.parse().ok()?;
    let retries = parts.next().map_or(Ok(0), str::parse).ok()?;
    Some((task_id, retries))
}
