//! Aggregation pass on request: aggregates all events that have a number when it begins.
//!
//! It joins as a standby for the aggregator's lease. It aggregates itself if no other process holds
//! the lease, and otherwise waits for the holder.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use store::{DutyWork, Error, LeaseOptions, Result, run_duties};
use tokio_util::sync::CancellationToken;

use super::{AGGREGATOR_DUTY, Aggregator};
use crate::ids::SequenceNumber;
use crate::types::GroupingColumns;

/// Interval between polls of the groupings' progress.
const PASS_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Aggregates up to the last assigned number, and returns that number. Cancellation-safe.
pub async fn run_aggregation_pass(aggregator: Aggregator) -> Result<SequenceNumber> {
    let pool = aggregator.pool.clone();
    let target_seq = read_last_seq(&pool).await?;
    let groupings = GroupingColumns::from_catalogue(&aggregator.types.current());
    if is_aggregated_up_to(&pool, &groupings, target_seq).await? {
        return Ok(target_seq);
    }
    let stop = CancellationToken::new();
    let _stop_on_drop = stop.clone().drop_guard();
    let work: DutyWork = Arc::new(move |lease| Box::pin(aggregator.clone().run(lease)));
    let duties = HashMap::from([(AGGREGATOR_DUTY, work)]);
    let standby =
        tokio::spawn(run_duties(pool.clone(), LeaseOptions::default(), duties, stop.clone()));
    while !is_aggregated_up_to(&pool, &groupings, target_seq).await? {
        tokio::time::sleep(PASS_POLL_INTERVAL).await;
    }
    stop.cancel();
    standby.await.map_err(|_| Error::Abandoned)?;
    Ok(target_seq)
}

async fn read_last_seq(pool: &PgPool) -> Result<SequenceNumber> {
    store::statement("last_seq", "SELECT last_seq FROM sequence").fetch_value(pool).await
}

/// Whether all groupings of types with accounts include the events up to `target_seq`.
async fn is_aggregated_up_to(
    pool: &PgPool,
    groupings: &GroupingColumns,
    target_seq: SequenceNumber,
) -> Result<bool> {
    store::statement("aggregated_up_to", IS_AGGREGATED_SQL)
        .bind(&groupings.types)
        .bind(&groupings.attributes)
        .bind(&groupings.intervals)
        .bind(target_seq)
        .fetch_value(pool)
        .await
}

const IS_AGGREGATED_SQL: &str = "SELECT NOT EXISTS (
    SELECT FROM unnest($1::text[], $2::text[], $3::text[]) AS w (type, attributes, interval)
    LEFT JOIN groupings g USING (type, attributes, interval)
    WHERE coalesce(g.aggregated_seq, 0) < $4 AND EXISTS (SELECT FROM accounts a WHERE a.type = w.type)
)";
