//! Forgetting tasks that ended long ago, and messages that have been dead letters for long: as fast as they can have come.

use std::time::{Duration, Instant};

use queue::fifo::forget_dead_letters;
use queue::forget_dead_in_tx;
use sqlx::PgPool;
use store::{Result, run_tx};

use crate::action::{ACTIONS, job_key};

/// Tasks forgotten in one transaction.
const TOGETHER: usize = 1000;
/// How long one pass may take: whoever calls it has other things to do. Some 10,000 tasks go in that time.
const BUDGET: Duration = Duration::from_millis(500);
/// How long dead letters wait for somebody: as long as Amazon SQS can keep them.
const DEAD_LETTERS_KEPT: Duration = Duration::from_secs(14 * 24 * 3600);

/// What a pass came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forgotten {
    /// Tasks.
    pub tasks: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Whether there may be more: the next pass should come soon.
    pub more: bool,
}

/// Forgets tasks that ended so long ago, with the dead jobs that are about them, and old dead letters; for half a second or so.
pub async fn forget(pool: &PgPool, older_than: Duration) -> Result<Forgotten> {
    let began = Instant::now();
    let mut forgotten = Forgotten::default();
    loop {
        let tasks = forget_some(pool, older_than).await?;
        let dead_letters = forget_dead_letters(pool, DEAD_LETTERS_KEPT, TOGETHER).await?;
        forgotten.tasks += tasks as u64;
        forgotten.dead_letters += dead_letters as u64;
        forgotten.more = tasks >= TOGETHER || dead_letters >= TOGETHER;
        if !forgotten.more || began.elapsed() >= BUDGET {
            return Ok(forgotten);
        }
    }
}

async fn forget_some(pool: &PgPool, older_than: Duration) -> Result<usize> {
    let seconds = older_than.as_secs_f64();
    run_tx(pool, "forget_tasks", move |connection| {
        Box::pin(async move {
            let gone = sqlx::query_as(FORGET).bind(seconds).bind(TOGETHER as i64);
            let gone: Vec<(i64, i32, bool)> = gone.fetch_all(&mut *connection).await?;
            let of_actions = gone.iter().filter(|(.., of_action)| *of_action);
            let keys: Vec<String> = of_actions.map(|(id, retries, _)| job_key(*id, *retries)).collect();
            if !keys.is_empty() {
                forget_dead_in_tx(connection, ACTIONS, &keys).await?;
            }
            Ok(gone.len())
        })
    })
    .await
}

/// What is old is so by the clock, but by no more than a month after the newest task: a clock that is set ahead for a moment
/// must not make everything old.
const FORGET: &str = "-- forget_tasks
DELETE FROM tasks WHERE task_id IN (
    SELECT task_id FROM tasks
    WHERE ended_at < least(now(), (SELECT created_at + interval '1 month' FROM tasks ORDER BY task_id DESC LIMIT 1))
                     - make_interval(secs => $1)
    ORDER BY ended_at LIMIT $2
) RETURNING task_id, retries, action_config IS NOT NULL";
