//! Missing partitions of upcoming months, for callers that plan before they create.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use store::Result;

use super::retention::list_months_ahead;
use crate::events::create_event_partitions_in_tx;

/// `strftime` format of a month's name.
pub const MONTH_FORMAT: &str = "%Y-%m";

/// Months from the current one to `months_after` later that have no partition.
pub async fn list_missing_partitions(
    connection: &mut PgConnection,
    months_after: u32,
) -> Result<Vec<DateTime<Utc>>> {
    let now = store::statement("now", "SELECT now()").fetch_value(&mut *connection).await?;
    store::statement("missing_event_months", "SELECT missing_event_months($1)")
        .bind(list_months_ahead(now, months_after))
        .fetch_value(connection)
        .await
}

/// Creates partitions for `months`. The transaction must not touch events otherwise and must commit
/// immediately: readers and writers of events wait for it.
pub async fn create_missing_partitions(
    connection: &mut PgConnection,
    months: &[DateTime<Utc>],
) -> Result<()> {
    create_event_partitions_in_tx(connection, months, false).await
}
