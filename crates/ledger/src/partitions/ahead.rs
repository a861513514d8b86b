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
    let months = sqlx::query_as("SELECT array_agg(month), now() FROM event_months() -- missing_months");
    let (there, now): (Option<Vec<DateTime<Utc>>>, DateTime<Utc>) = months.fetch_one(connection).await?;
    let there = there.unwrap_or_default();
    Ok(months_ahead(now, ahead).into_iter().filter(|month| !there.contains(month)).collect())
}

/// Makes these months. The transaction must not touch events besides, and should end at once: others wait for it.
pub async fn make_missing_in_tx(connection: &mut PgConnection, months: &[DateTime<Utc>]) -> Result<()> {
    make_months_in_tx(connection, months).await
}
