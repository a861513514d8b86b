//! Retention of dead letters in Postgres queues.

use std::time::Duration;

use sqlx::PgPool;
use store::{Result, run_statement};

/// Deletes messages that are older than `older_than` in dead letter queues, about `max_messages` at
/// most. Returns their number. Does not wait for locks.
pub async fn delete_dead_letters(
    pool: &PgPool,
    older_than: Duration,
    max_messages: usize,
) -> Result<usize> {
    let (seconds, most) =
        (older_than.as_secs_f64(), i32::try_from(max_messages).unwrap_or(i32::MAX));
    let forgotten: i32 = run_statement(pool, "forget_dead_letters", move |connection| {
        Box::pin(async move {
            let forgotten = sqlx::query_scalar(
                "SELECT fifo_forget_dead_letters(make_interval(secs => $1), $2) -- forget_dead_letters",
            );
            Ok(forgotten.bind(seconds).bind(most).fetch_one(connection).await?)
        })
    })
    .await?;
    Ok(usize::try_from(forgotten).unwrap_or(0))
}
