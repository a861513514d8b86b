//! Writer of `orderProcessed` and `orderFailed`: one event per ended order, outside the order path.
//!
//! - Shape: `finish_orders` and `fail_orders` add one row of order ids to `order_outcomes`. This
//!   duty takes rows, writes their events and deletes the rows, in one transaction.
//! - Cost: at most a third of the time is spent writing; the rest is left to orders.
//! - Promise: exactly one event per end; the lease fences the transaction.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use events::{EventCause, EventStore, NewEvent, PLATFORM_AUTHOR};
use serde_json::{Value as Json, json};
use sqlx::{PgConnection, PgPool};
use store::{Error, Lease, Result};
use tasks::TaskId;
use tokio::time::sleep;

use crate::orders::{OrderId, PickupPointId, ProductId, StorageId};

/// Poll interval while there are no rows.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);
/// Approximate number of orders per transaction.
const MAX_ORDERS_PER_TX: i64 = 5000;
/// Pause after a transaction, as a multiple of its duration.
const REST_FACTOR: u32 = 2;

/// Writes the events of ended orders.
#[derive(Clone)]
pub struct OrderEventWriter {
    /// Connection pool of the control database.
    pub pool: PgPool,
    /// Destination of the events.
    pub events: EventStore,
}

#[derive(store::FromRow)]
struct OrderOutcomeRow {
    outcome_id: i64,
    processed: Vec<OrderId>,
    failed: Vec<OrderId>,
    attempts: Vec<i32>,
    reasons: Vec<String>,
}

#[derive(store::FromRow)]
struct EndedOrderRow {
    order_id: OrderId,
    product_id: ProductId,
    storage_id: StorageId,
    pickup_point_id: PickupPointId,
    attempts: i32,
    task_id: Option<TaskId>,
    depth: Option<i16>,
}

impl OrderEventWriter {
    /// Runs until the lease is lost; other errors are logged and retried.
    pub async fn run(self, lease: Arc<Lease>) {
        loop {
            let started = Instant::now();
            match self.write_batch(&lease).await {
                Ok(0) => sleep(IDLE_INTERVAL).await,
                Ok(written) => {
                    metrics::counter!("order_events_total").increment(written as u64);
                    sleep(started.elapsed() * REST_FACTOR).await;
                }
                Err(Error::Fenced { .. }) => return,
                Err(error) => {
                    tracing::warn!(%error, code = "UNAVAILABLE", "events of orders not written; trying again");
                    sleep(IDLE_INTERVAL).await;
                }
            }
        }
    }

    /// Writes the events of the oldest rows. Returns the number of events.
    pub async fn write_batch(&self, lease: &Arc<Lease>) -> Result<usize> {
        store::transaction("write_order_events", (self.events.clone(), lease.clone()))
            .run(&self.pool, |connection, (events, lease)| {
                Box::pin(write_events_in_tx(connection, events, lease))
            })
            .await
    }
}

async fn write_events_in_tx(
    connection: &mut PgConnection,
    events: &EventStore,
    lease: &Lease,
) -> Result<usize> {
    lease.fence(connection).await?;
    let mut outcomes: Vec<OrderOutcomeRow> =
        store::statement("take_order_outcomes", TAKE_OUTCOMES_SQL)
            .bind(MAX_ORDERS_PER_TX)
            .fetch_all(&mut *connection)
            .await?;
    // Keeps the order of events for an order that failed, was revived and finished.
    outcomes.sort_unstable_by_key(|outcome| outcome.outcome_id);
    let new_events = build_order_events(connection, &outcomes).await?;
    let written = new_events.len();
    events.write_in_tx(connection, new_events).await?;
    store::fail_point("order_events_written");
    Ok(written)
}

async fn build_order_events(
    connection: &mut PgConnection,
    outcomes: &[OrderOutcomeRow],
) -> Result<Vec<NewEvent>> {
    let mut ids: Vec<OrderId> = outcomes
        .iter()
        .flat_map(|outcome| outcome.processed.iter().chain(&outcome.failed))
        .copied()
        .collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let orders: Vec<EndedOrderRow> = store::statement("orders_of_events", EVENT_ORDERS_SQL)
        .bind(ids)
        .fetch_all(connection)
        .await?;
    let orders: HashMap<OrderId, EndedOrderRow> =
        orders.into_iter().map(|order| (order.order_id, order)).collect();
    let mut new_events = Vec::new();
    for outcome in outcomes {
        let processed = outcome.processed.iter().filter_map(|id| orders.get(id));
        new_events.extend(
            processed.map(|order| new_order_event("orderProcessed", order, order.attempts, None)),
        );
        let failed = outcome.failed.iter().zip(&outcome.attempts).zip(&outcome.reasons);
        let failed = failed
            .filter_map(|((id, attempts), reason)| Some((orders.get(id)?, *attempts, reason)));
        new_events.extend(failed.map(|(order, attempts, reason)| {
            new_order_event("orderFailed", order, attempts, Some(reason))
        }));
    }
    Ok(new_events)
}

fn new_order_event(
    name: &str,
    order: &EndedOrderRow,
    attempts: i32,
    reason: Option<&String>,
) -> NewEvent {
    let params: [(&str, Json); 6] = [
        ("order_id", order.order_id.get().into()),
        ("product_id", order.product_id.get().into()),
        ("storage_id", order.storage_id.get().into()),
        ("pickup_point_id", order.pickup_point_id.get().into()),
        ("attempts", attempts.into()),
        ("reason", json!(reason)),
    ];
    let cause =
        order.task_id.zip(order.depth).map(|(task_id, depth)| EventCause::of_task(task_id, depth));
    NewEvent {
        name: name.to_owned(),
        params: params.map(|(name, value)| (name.to_owned(), value)).into_iter().collect(),
        author: PLATFORM_AUTHOR.to_owned(),
        key: None,
        cause: cause.unwrap_or_default(),
    }
}

/// The oldest rows, together about `$1` orders; at least one row.
const TAKE_OUTCOMES_SQL: &str = "WITH chosen AS MATERIALIZED (
    SELECT outcome_id FROM (
        SELECT outcome_id, sum(cardinality(processed) + cardinality(failed)) OVER (ORDER BY outcome_id)
                           - cardinality(processed) - cardinality(failed) AS before
        FROM (SELECT * FROM order_outcomes ORDER BY outcome_id LIMIT 1000) AS oldest
    ) AS counted WHERE before < $1
)
DELETE FROM order_outcomes o USING chosen c WHERE o.outcome_id = c.outcome_id
RETURNING o.outcome_id, o.processed, o.failed, o.attempts, o.reasons";

/// The cause of an order's event is the latest task that placed the order.
const EVENT_ORDERS_SQL: &str = "SELECT o.order_id, o.product_id, o.storage_id, o.pickup_point_id, o.attempts, t.task_id, t.depth
FROM orders o LEFT JOIN LATERAL (
    SELECT t.task_id, t.depth FROM task_effects e JOIN tasks t USING (task_id)
    WHERE e.kind = 'order' AND e.effect = o.order_id::text ORDER BY t.task_id DESC LIMIT 1
) AS t ON true
WHERE o.order_id = ANY ($1)";
