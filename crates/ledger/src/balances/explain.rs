//! Explanation of a balance: which aggregates and events it was computed from.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use store::{PgOperation, Result};

use super::{BalancePlan, BalanceQuery};
use crate::ids::SequenceNumber;
use crate::types::AccountType;

/// Sources of a balance: aggregates and single events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalanceExplanation {
    /// Attributes of the grouping whose aggregates were
    /// used; `None` if it is missing or lags too far.
    pub grouping: Option<Vec<String>>,
    /// End of the aggregates used; events from here on were read individually.
    pub cut_off: DateTime<Utc>,
    /// Last sequence number included in the grouping's aggregates; `None` if it has none.
    pub aggregated_seq: Option<SequenceNumber>,
    /// Last sequence number assigned in the shard.
    pub last_seq: SequenceNumber,
    /// Number of events in the aggregates used.
    pub events_aggregated: i64,
    /// Number of events from the cut-off on.
    pub events_after_cut_off: i64,
    /// Number of events before the cut-off that are not aggregated yet.
    pub events_not_aggregated: i64,
}

#[derive(store::FromRow)]
struct BalanceExplanationRow {
    aggregated_seq: Option<SequenceNumber>,
    last_seq: SequenceNumber,
    aggregated: Option<i64>,
    since: i64,
    late: i64,
}

/// Explains the balance of `balance_query`, ignoring its `from`.
pub async fn explain_balance(
    pool: &PgPool,
    account_type: &AccountType,
    balance_query: &BalanceQuery,
) -> Result<BalanceExplanation> {
    let plan = BalancePlan::for_query(account_type, balance_query);
    let operation = PgOperation::named("explain_totals").expensive();
    let statement = plan.bind_account_parts(store::statement(operation, EXPLAIN_TOTALS_SQL));
    let row: BalanceExplanationRow = store::transaction(operation, statement)
        .run(pool, |connection, statement| Box::pin(statement.clone().fetch_one(connection)))
        .await?;
    let names =
        plan.grouping_names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    Ok(BalanceExplanation {
        grouping: row.aggregated.map(|_| names),
        cut_off: plan.to_cut_offs.cut_off,
        aggregated_seq: row.aggregated_seq,
        last_seq: row.last_seq,
        events_aggregated: row.aggregated.unwrap_or(0),
        events_after_cut_off: row.since,
        events_not_aggregated: row.late,
    })
}

/// The condition for using the grouping is that of `account_parts`: it exists and does not lag. $11
/// to $15 belong to turnovers and are unused here.
const EXPLAIN_TOTALS_SQL: &str = "WITH parts AS MATERIALIZED (SELECT * FROM account_parts($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, true)),
g AS (SELECT aggregated_seq FROM groupings WHERE type = $2 AND attributes = $3 AND interval = $4)
SELECT (SELECT aggregated_seq FROM g) AS aggregated_seq, s.last_seq,
       CASE WHEN s.last_seq - (SELECT aggregated_seq FROM g)
                 + coalesce((SELECT sum(events) FROM pending_batches WHERE first_dt < $8), 0) <= $10
                 AND ((SELECT aggregated_seq FROM g) > 0 OR NOT EXISTS (SELECT FROM closing_balances WHERE account_id = $1))
            THEN coalesce((SELECT sum(events) FROM parts WHERE part = 'a'), 0) END::bigint AS aggregated,
       coalesce((SELECT sum(events) FROM parts WHERE part = 's'), 0)::bigint AS since,
       coalesce((SELECT sum(events) FROM parts WHERE part = 'l'), 0)::bigint AS late
FROM sequence s
WHERE ($11::timestamptz, $12::timestamptz, $13::timestamptz, $14::timestamptz, $15::timestamptz) IS NOT DISTINCT FROM
      (NULL, NULL, NULL, NULL, NULL)";
