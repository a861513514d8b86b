//! Recovery: what a process had accepted and not ended becomes jobs, in the transaction that adopts its lane.

use std::sync::Arc;
use std::time::Duration;

use queue::{Adoption, Jobs, NewJob, enqueue_in_tx};
use sqlx::{PgConnection, PgPool};
use store::{LONG, Lease, Operation, Result, run_tx};
use uuid::Uuid;

use super::QUEUE;

/// About how many orders become jobs in one transaction.
const TOGETHER: i64 = 5000;

/// Turns some batches of `lane`, which must be held, into jobs of it. Safe to repeat.
pub async fn adopt(connection: &mut PgConnection, lane: &Lease) -> Result<Adoption> {
    let batches: Vec<Uuid> =
        sqlx::query_scalar(SOME).bind(lane.id).bind(TOGETHER).fetch_all(&mut *connection).await?;
    if batches.is_empty() {
        return Ok(Adoption::Complete);
    }
    let orders = unended(connection, lane, &batches, true).await?;
    if !orders.is_empty() {
        tracing::info!(
            lane = lane.name,
            orders = orders.len(),
            "orders of a process that is gone are carried on"
        );
    }
    enqueue(connection, lane, orders).await?;
    Ok(Adoption::Partial)
}

/// The same for single batches of this process's own, whose commit was never answered.
pub(super) async fn recover(pool: &PgPool, jobs: &Jobs, batches: Vec<Uuid>) {
    let batches: Arc<Vec<Uuid>> = Arc::new(batches);
    loop {
        let lane = jobs.lane();
        let batches = batches.clone();
        let recovered = run_tx(pool, Operation::named("recover_batches").within(LONG), move |connection| {
            let (lane, batches) = (lane.clone(), batches.clone());
            Box::pin(async move {
                lane.fence(connection).await?;
                // The lost commit may still be on its way: this waits for it, or makes it fail.
                sqlx::query(BAR).bind(lane.id).bind(&*batches).execute(&mut *connection).await?;
                let orders = unended(connection, &lane, &batches, false).await?;
                enqueue(connection, &lane, orders).await
            })
        });
        match recovered.await {
            Ok(()) => return jobs.wake_in(Duration::ZERO),
            // The lane is lost: whoever adopts it finds the batches.
            Err(store::Error::Fenced { .. }) => return,
            Err(error) => {
                tracing::warn!(%error, code = "UNAVAILABLE", "doubtful batches could not be looked up; trying again");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

async fn unended(
    connection: &mut PgConnection,
    lane: &Lease,
    batches: &[Uuid],
    bars_too: bool,
) -> Result<Vec<i32>> {
    let orders = sqlx::query_scalar(UNENDED).bind(lane.id).bind(batches).bind(bars_too);
    Ok(orders.fetch_all(connection).await?)
}

async fn enqueue(connection: &mut PgConnection, lane: &Lease, orders: Vec<i32>) -> Result<()> {
    let job = |order_id: i32| NewJob { key: Some(order_id.to_string()), ..NewJob::default() };
    let jobs: Vec<NewJob> = orders.into_iter().map(job).collect();
    if !jobs.is_empty() {
        // Those that wait as jobs already are left as they are.
        enqueue_in_tx(connection, QUEUE, Some(lane), &jobs).await?;
    }
    Ok(())
}

/// Takes the ids of batches that must not appear any more; gone when the lane is adopted.
const BAR: &str = "-- bar_batches
INSERT INTO accepted_batches (batch_id, lane, order_ids)
SELECT batch_id, $1, '{}' FROM unnest($2::uuid[]) AS batch_id ON CONFLICT (batch_id) DO NOTHING";

/// Batches of a lane that together have about so many orders: one at least.
const SOME: &str = "-- batches_to_adopt
SELECT batch_id FROM (
    SELECT batch_id, sum(cardinality(order_ids)) OVER (ORDER BY batch_id) - cardinality(order_ids) AS before
    FROM accepted_batches WHERE lane = $1
) b WHERE before < $2";

/// Removes batches of the lane, those that only bar their ids if `$3`, and answers their orders that have not ended.
const UNENDED: &str = "-- unended_orders
WITH gone AS (
    DELETE FROM accepted_batches WHERE lane = $1 AND batch_id = ANY ($2) AND ($3 OR order_ids <> '{}') RETURNING order_ids
)
SELECT o.order_id FROM (SELECT DISTINCT unnest(order_ids) AS order_id FROM gone) AS ids
JOIN orders o USING (order_id) WHERE o.state < 4 ORDER BY o.order_id";
