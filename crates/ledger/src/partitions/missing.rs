//! The months to come that have no partition yet, for who plans before making them.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use store::Result;

use super::retention::list_months_ahead;
use crate::events::create_event_partitions_in_tx;

/// How a month is named.
pub const MONTH_FORMAT: &str = "%Y-%m";

/// The present month and the `months_after` after it, those of them that have no partition.
pub async fn list_missing_partitions(
    connection: &mut PgConnection,
    months_after: u32,
) -> Result<Vec<DateTime<Utc>>> {
    let now: DateTime<Utc> =
        sqlx::query_scalar("SELECT now() -- now").fetch_one(&mut *connection).await?;
    let missing = sqlx::query_scalar("SELECT missing_event_months($1) -- missing_event_months");
    Ok(missing.bind(list_months_ahead(now, months_after)).fetch_one(connection).await?)
}

/// Makes these months. The transaction must not touch events besides, and should end at once: others wait for it.
pub async fn create_missing_partitions(
    connection: &mut PgConnection,
    months: &[DateTime<Utc>],
) -> Result<()> {
    create_event_partitions_in_tx(connection, months, false).await
}
