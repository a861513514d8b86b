//! What dropped events summed up to, for groupings that are added after they have gone.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use store::{LONG_OPERATION_TIMEOUT, PgOperation, Result, run_statement};

/// Type, account, combination of attributes, a time before the horizon, sums (in units of 10^-9) and number of events.
pub(crate) type ClosingSum = (String, i64, String, DateTime<Utc>, String, String, i64);

/// The sums of all dropped events of these types, each as if it were of one event a month before the horizon. Nobody asks
/// for a time before that, so it is in every balance, and in both of those whose difference is a turnover.
pub(crate) async fn read_closing_sums(
    pool: &PgPool,
    types: Vec<String>,
) -> Result<Vec<ClosingSum>> {
    run_statement(
        pool,
        PgOperation::named("closing_sums").with_timeout(LONG_OPERATION_TIMEOUT),
        move |connection| {
            let types = types.clone();
            Box::pin(async move {
                Ok(sqlx::query_as(CLOSING_SUMS_SQL).bind(types).fetch_all(connection).await?)
            })
        },
    )
    .await
}

const CLOSING_SUMS_SQL: &str = "-- closing_sums
SELECT a.type, c.account_id, t.canonical, (h.horizon AT TIME ZONE 'UTC' - interval '1 month') AT TIME ZONE 'UTC',
       trunc(c.debit * 1000000000)::text, trunc(c.credit * 1000000000)::text, c.events
FROM closing_balances c JOIN accounts a USING (account_id) JOIN tuples t USING (tuple_id) CROSS JOIN horizon h
WHERE a.type = ANY ($1)";
