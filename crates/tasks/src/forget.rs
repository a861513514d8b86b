//! Retention of tasks and dead letters: deletes ended tasks and old dead letters, at least as fast
//! as new ones can arrive.
//!
//! - Cost: transactions of at most 1,000 tasks, for about 500 ms per pass.
//! - Promise: idempotent; `has_more` requests another pass soon.

use std::time::{Duration, Instant};

use queue::delete_dead_jobs_in_tx;
use queue::fifo::delete_dead_letters;
use sqlx::{PgConnection, PgPool};
use store::Result;

use crate::TaskId;
use crate::action::{ACTION_TASK_QUEUE, task_job_key};
use crate::task::TaskRef;

/// Tasks deleted per transaction.
const MAX_TASKS_PER_TRANSACTION: usize = 1000;
/// Time budget of one pass, since it blocks its caller: enough for some 10,000 tasks.
const FORGET_TIME_BUDGET: Duration = Duration::from_millis(500);
/// Retention of dead letters: the maximum of Amazon SQS.
const DEAD_LETTER_RETENTION: Duration = Duration::from_secs(14 * 24 * 3600);

/// Result of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ForgetTasksOutcome {
    /// Number of deleted tasks.
    pub tasks: u64,
    /// Number of deleted dead letters.
    pub dead_letters: u64,
    /// Whether more may be left: the next pass should run soon.
    pub has_more: bool,
}

/// Deletes tasks that ended longer than `older_than` ago with their dead jobs, and old dead
/// letters; runs for about half a second.
pub async fn forget_old_tasks(pool: &PgPool, older_than: Duration) -> Result<ForgetTasksOutcome> {
    let began = Instant::now();
    let mut outcome = ForgetTasksOutcome::default();
    loop {
        let tasks = forget_task_batch(pool, older_than).await?;
        let dead_letters =
            delete_dead_letters(pool, DEAD_LETTER_RETENTION, MAX_TASKS_PER_TRANSACTION).await?;
        outcome.tasks += tasks as u64;
        outcome.dead_letters += dead_letters as u64;
        outcome.has_more =
            tasks >= MAX_TASKS_PER_TRANSACTION || dead_letters >= MAX_TASKS_PER_TRANSACTION;
        if !outcome.has_more || began.elapsed() >= FORGET_TIME_BUDGET {
            return Ok(outcome);
        }
    }
}

async fn forget_task_batch(pool: &PgPool, older_than: Duration) -> Result<usize> {
    store::transaction("forget_tasks", older_than)
        .run(pool, |connection, older_than| {
            Box::pin(forget_task_batch_in_tx(connection, *older_than))
        })
        .await
}

async fn forget_task_batch_in_tx(
    connection: &mut PgConnection,
    older_than: Duration,
) -> Result<usize> {
    let gone: Vec<(TaskId, i32, bool)> = store::statement("forget_tasks", FORGET_TASKS_SQL)
        .bind(older_than.as_secs_f64())
        .bind(MAX_TASKS_PER_TRANSACTION as i64)
        .fetch_all(&mut *connection)
        .await?;
    let of_actions = gone.iter().filter(|(.., of_action)| *of_action);
    let keys: Vec<String> = of_actions
        .map(|(task_id, retries, _)| task_job_key(TaskRef { task_id: *task_id, retries: *retries }))
        .collect();
    if !keys.is_empty() {
        delete_dead_jobs_in_tx(connection, ACTION_TASK_QUEUE, &keys).await?;
    }
    Ok(gone.len())
}

/// Age is measured at most one month past the newest task: a clock set ahead by mistake must not
/// expire everything.
const FORGET_TASKS_SQL: &str = "DELETE FROM tasks WHERE task_id IN (
    SELECT task_id FROM tasks
    WHERE ended_at < least(now(), (SELECT created_at + interval '1 month' FROM tasks ORDER BY task_id DESC LIMIT 1))
                     - make_interval(secs => $1)
    ORDER BY ended_at LIMIT $2
) RETURNING task_id, retries, action_config IS NOT NULL";
