//! Forgetting tasks that ended long ago, and messages that have been dead letters for long: as fast as they can have come.

use std::time::{Duration, Instant};

use queue::delete_dead_jobs_in_tx;
use queue::fifo::delete_dead_letters;
use sqlx::PgPool;
use store::{Result, run_tx};

use crate::action::{ACTION_TASK_QUEUE, task_job_key};

/// Tasks forgotten in one transaction.
const MAX_TASKS_PER_TRANSACTION: usize = 1000;
/// How long one pass may take: whoever calls it has other things to do. Some 10,000 tasks go in that time.
const FORGET_TIME_BUDGET: Duration = Duration::from_millis(500);
/// How long dead letters wait for somebody: as long as Amazon SQS can keep them.
const DEAD_LETTER_RETENTION: Duration = Duration::from_secs(14 * 24 * 3600);

/// What a pass came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ForgetTasksOutcome {
    /// Tasks.
    pub tasks: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Whether there may be more: the next pass should come soon.
    pub has_more: bool,
}

/// Forgets tasks that ended so long ago, with the dead jobs that are about them, and old dead letters; for half a second or so.
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
    let seconds = older_than.as_secs_f64();
    run_tx(pool, "forget_tasks", move |connection| {
        Box::pin(async move {
            let gone = sqlx::query_as(FORGET_TASKS_SQL)
                .bind(seconds)
                .bind(MAX_TASKS_PER_TRANSACTION as i64);
            let gone: Vec<(i64, i32, bool)> = gone.fetch_all(&mut *connection).await?;
            let of_actions = gone.iter().filter(|(.., of_action)| *of_action);
            let keys: Vec<String> =
                of_actions.map(|(id, retries, _)| task_job_key(*id, *retries)).collect();
            if !keys.is_empty() {
                delete_dead_jobs_in_tx(connection, ACTION_TASK_QUEUE, &keys).await?;
            }
            Ok(gone.len())
        })
    })
    .await
}

/// What is old is so by the clock, but by no more than a month after the newest task: a clock that is set ahead for a moment
/// must not make everything old.
const FORGET_TASKS_SQL: &str = "-- forget_tasks
DELETE FROM tasks WHERE task_id IN (
    SELECT task_id FROM tasks
    WHERE ended_at < least(now(), (SELECT created_at + interval '1 month' FROM tasks ORDER BY task_id DESC LIMIT 1))
                     - make_interval(secs => $1)
    ORDER BY ended_at LIMIT $2
) RETURNING task_id, retries, action_config IS NOT NULL";
