//! Retention of dead letters in Postgres queues.

use std::time::Duration;

use sqlx::PgPool;
use store::{Result, statement};

/// Deletes messages that are older than `older_than` in dead letter queues, about `max_messages` at
/// most. Returns their number. Does not wait for locks.
pub async fn delete_dead_letters(
    pool: &PgPool,
    older_than: Duration,
    max_messages: usize,
) -> Result<usize> {
    let deleted: i32 = statement(
        "forget_dead_letters",
        "SELECT fifo_forget_dead_letters(make_interval(secs => $1), $2)",
    )
    .bind(older_than.as_secs_f64())
    .bind(i32::try_from(max_messages).unwrap_or(i32::MAX))
    .fetch_value(pool)
    .await?;
    Ok(usize::try_from(deleted).unwrap_or(0))
}
