//! The months to come that have no partition yet, for who plans before making them.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use store::Result;

use super::retention::months_ahead;
use crate::events::make_months_in_tx;

/// How a month is named.
pub const MONTH_FORMAT: &str = "%Y-%m";

/// The present month and the `ahead` after it, those of them that have no partition.
pub async fn missing_in_tx(connection: &mut PgConnection, ahead: u32) -> Result<Vec<DateTime<Utc>>> {
    let now: DateTime<Utc> = sqlx::query_scalar("SELECT now() -- now").fetch_one(&mut *connection).await?;
    let missing = sqlx::query_scalar("SELECT missing_event_months($1) -- missing_event_months");
    Ok(missing.bind(months_ahead(now, ahead)).fetch_one(connection).await?)
}

/// Makes these months. The transaction must not touch events besides, and should end at once: others wait for it.
pub async fn make_missing_in_tx(connection: &mut PgConnection, months: &[DateTime<Utc>]) -> Result<()> {
    make_months_in_tx(connection, months, false).await
}
