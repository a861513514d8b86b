//! Closing sums of dropped events, for groupings that are added after the drop.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use store::{LONG_OPERATION_TIMEOUT, PgOperation, Result};

use crate::ids::AccountId;

/// Account type, account id, canonical attribute set, a time before the horizon, debit and credit
/// sums (in units of 10^-9), number of events.
pub(crate) type ClosingSum = (String, AccountId, String, DateTime<Utc>, String, String, i64);

/// Sums of all dropped events of these types, each dated as one event a month before the horizon.
/// Queries before the horizon are refused, so the sum is part of every balance, and cancels out of
/// every turnover.
pub(crate) async fn read_closing_sums(
    pool: &PgPool,
    types: Vec<String>,
) -> Result<Vec<ClosingSum>> {
    let operation = PgOperation::named("closing_sums").with_timeout(LONG_OPERATION_TIMEOUT);
    store::statement(operation, CLOSING_SUMS_SQL).bind(types).fetch_all(pool).await
}

const CLOSING_SUMS_SQL: &str = "SELECT a.type, c.account_id, t.canonical, (h.horizon AT TIME ZONE 'UTC' - interval '1 month') AT TIME ZONE 'UTC',
       trunc(c.debit * 1000000000)::text, trunc(c.credit * 1000000000)::text, c.events
FROM closing_balances c JOIN accounts a USING (account_id) JOIN tuples t USING (tuple_id) CROSS JOIN horizon h
WHERE a.type = ANY ($1)";
