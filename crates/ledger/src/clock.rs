//! The shard database's clock, shared by all processes: an acknowledged event is in the current
//! balance no matter which process reads it.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use store::Result;

/// Current time of the shard database, in microseconds. One round trip.
pub(crate) async fn read_clock(pool: &PgPool) -> Result<DateTime<Utc>> {
    store::statement("read_shard_clock", "SELECT clock_timestamp()").fetch_value(pool).await
}
