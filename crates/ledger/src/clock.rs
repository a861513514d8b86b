//! The shard database's clock, shared by all processes: an acknowledged event is in the current
//! balance no matter which process reads it.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use store::{Result, run_statement};

/// Current time of the shard database, in microseconds. One round trip.
pub(crate) async fn read_clock(pool: &PgPool) -> Result<DateTime<Utc>> {
    run_statement(pool, "clock", |connection| {
        Box::pin(async move {
            let now = sqlx::query_scalar("SELECT clock_timestamp() -- clock");
            Ok(now.fetch_one(connection).await?)
        })
    })
    .await
}
