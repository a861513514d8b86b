//! A shard's own clock. Every process asks the same one, so that an event which was answered is in the balance of now, wherever
//! it is asked for.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use store::{Result, run_statement};

/// This moment, to the microsecond. One round trip.
pub(crate) async fn read_clock(pool: &PgPool) -> Result<DateTime<Utc>> {
    run_statement(pool, "clock", |connection| {
        Box::pin(async move {
            let now = sqlx::query_scalar("SELECT clock_timestamp() -- clock");
            Ok(now.fetch_one(connection).await?)
        })
    })
    .await
}
