//! Recovery of accepted orders: the unended orders of an adopted lane become jobs.
//!
//! - Shape: rows of `accepted_batches` in, jobs out; about 5000 orders per transaction, each of which
//!   checks the lease.
//! - Promise: no accepted order is lost when its process dies or a commit outcome is unknown.

use std::sync::Arc;
use std::time::Duration;

use queue::{AdoptionProgress, JobQueue, NewJob, enqueue_jobs_in_tx};
use sqlx::{PgConnection, PgPool};
use store::{LONG_OPERATION_TIMEOUT, Lease, PgOperation, Result};
use uuid::Uuid;

use super::ORDER_QUEUE;
use crate::orders::OrderId;

/// Approximate number of orders per transaction.
const ADOPTED_ORDERS_PER_TX: i64 = 5000;

/// Turns some batches of `lane`, which must be held, into jobs of the lane. Safe to repeat.
pub async fn adopt_batches(
    connection: &mut PgConnection,
    lane: &Lease,
) -> Result<AdoptionProgress> {
    let batches: Vec<Uuid> = store::statement("batches_to_adopt", BATCHES_TO_ADOPT_SQL)
        .bind(lane.id)
        .bind(ADOPTED_ORDERS_PER_TX)
        .fetch_values(&mut *connection)
        .await?;
    if batches.is_empty() {
        return Ok(AdoptionProgress::Complete);
    }
    let orders = take_unended_orders(connection, lane, &batches, true).await?;
    if !orders.is_empty() {
        tracing::info!(
            lane = lane.name,
            orders = orders.len(),
            "orders of a process that is gone are carried on"
        );
    }
    enqueue_orders(connection, lane, orders).await?;
    Ok(AdoptionProgress::Partial)
}

/// Recovers batches of this process whose commit outcome is unknown.
pub(super) async fn recover_batches(pool: &PgPool, jobs: &JobQueue, batches: Vec<Uuid>) {
    let recover = PgOperation::named("recover_batches").with_timeout(LONG_OPERATION_TIMEOUT);
    let batches: Arc<[Uuid]> = batches.into();
    loop {
        let recovered = store::transaction(recover, (jobs.own_lane(), batches.clone()))
            .run(pool, |connection, (lane, batches)| {
                Box::pin(recover_batches_in_tx(connection, lane, batches))
            })
            .await;
        match recovered {
            Ok(()) => return jobs.wake_in(Duration::ZERO),
            // The lane is lost: its adopter finds the batches.
            Err(store::Error::Fenced { .. }) => return,
            Err(error) => {
                tracing::warn!(%error, code = "UNAVAILABLE", "doubtful batches could not be looked up; trying again");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

async fn recover_batches_in_tx(
    connection: &mut PgConnection,
    lane: &Lease,
    batches: &[Uuid],
) -> Result<()> {
    lane.fence(connection).await?;
    // The commit may still be in flight: this insert waits for it, or makes it fail by the primary
    // key.
    store::statement("bar_batches", BAR_BATCHES_SQL)
        .bind(lane.id)
        .bind(batches)
        .execute(&mut *connection)
        .await?;
    let orders = take_unended_orders(connection, lane, batches, false).await?;
    enqueue_orders(connection, lane, orders).await
}

async fn take_unended_orders(
    connection: &mut PgConnection,
    lane: &Lease,
    batches: &[Uuid],
    include_barred: bool,
) -> Result<Vec<OrderId>> {
    store::statement("unended_orders", TAKE_UNENDED_ORDERS_SQL)
        .bind(lane.id)
        .bind(batches)
        .bind(include_barred)
        .fetch_values(connection)
        .await
}

async fn enqueue_orders(
    connection: &mut PgConnection,
    lane: &Lease,
    orders: Vec<OrderId>,
) -> Result<()> {
    let jobs: Vec<NewJob> = orders
        .into_iter()
        .map(|order_id| NewJob { key: Some(order_id.to_string()), ..NewJob::default() })
        .collect();
    if !jobs.is_empty() {
        // Existing jobs stay unchanged.
        enqueue_jobs_in_tx(connection, ORDER_QUEUE, Some(lane), &jobs).await?;
    }
    Ok(())
}

/// Inserts empty batches that bar the ids against a late commit; deleted when the lane is adopted.
const BAR_BATCHES_SQL: &str = "INSERT INTO accepted_batches (batch_id, lane, order_ids)
SELECT batch_id, $1, '{}' FROM unnest($2::uuid[]) AS batch_id ON CONFLICT (batch_id) DO NOTHING";

/// Batches of a lane with together about `$2` orders; at least one batch.
const BATCHES_TO_ADOPT_SQL: &str = "SELECT batch_id FROM (
    SELECT batch_id, sum(cardinality(order_ids)) OVER (ORDER BY batch_id) - cardinality(order_ids) AS before
    FROM accepted_batches WHERE lane = $1
) b WHERE before < $2";

/// Deletes batches of the lane (barring ones only if `$3`) and returns their unended orders.
const TAKE_UNENDED_ORDERS_SQL: &str = "WITH gone AS (
    DELETE FROM accepted_batches WHERE lane = $1 AND batch_id = ANY ($2) AND ($3 OR order_ids <> '{}') RETURNING order_ids
)
SELECT o.order_id FROM (SELECT DISTINCT unnest(order_ids) AS order_id FROM gone) AS ids
JOIN orders o USING (order_id) WHERE o.state < 4 ORDER BY o.order_id";
