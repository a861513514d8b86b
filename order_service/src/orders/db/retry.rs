//! Retry requests: revives failed orders and makes waiting ones due now.
//!
//! - Lock order: lane, orders by id, jobs.
//! - Cost: at most 1000 orders per transaction.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use audit::{AuditAction, AuditActor, AuditDifference, AuditEntry, record_entry};
use queue::{JobQueue, NewJob, delete_dead_jobs_in_tx, enqueue_jobs_in_tx, hurry_jobs_in_tx};
use sqlx::{PgConnection, PgPool};
use store::{Error, LONG_OPERATION_TIMEOUT, Lease, PgOperation};

use super::{ORDER_QUEUE, OrderListQuery, OrderState, list_orders};
use crate::orders::OrderId;

/// Why an order was not retried.
#[derive(Debug, Clone)]
pub enum OrderRetryError {
    /// No order has this id.
    Unknown,
    /// It has finished, or is in the pipeline.
    NotWaiting(OrderState),
    /// The database failed or timed out.
    Database(Error),
}

impl From<Error> for OrderRetryError {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

/// An order that was not retried.
#[derive(Debug, Clone)]
pub struct RefusedRetry {
    /// Order id as requested.
    pub order_id: OrderId,
    /// Why it was refused.
    pub error: OrderRetryError,
}

/// An order locked for a retry.
#[derive(store::FromRow)]
struct LockedOrderRow {
    order_id: OrderId,
    state: i16,
}

/// Maximum number of orders per transaction.
const MAX_RETRIES_PER_TX: usize = 1000;

/// Revives a failed order with its job's failure count reset, or makes a waiting one due now.
pub async fn retry_order(
    pool: &PgPool,
    jobs: &JobQueue,
    order_id: OrderId,
    actor: &AuditActor,
) -> Result<(), OrderRetryError> {
    let refused = retry_orders(pool, jobs, &[order_id], actor).await?;
    refused.into_iter().next().map_or(Ok(()), |refused| Err(refused.error))
}

/// Retries many orders, 1000 per transaction; returns the refused ones, which do
/// not affect the others.
pub async fn retry_orders(
    pool: &PgPool,
    jobs: &JobQueue,
    order_ids: &[OrderId],
    actor: &AuditActor,
) -> Result<Vec<RefusedRetry>, Error> {
    let mut refused = Vec::new();
    for ids in order_ids.chunks(MAX_RETRIES_PER_TX) {
        let arguments = (jobs.own_lane(), ids.to_vec(), actor.clone());
        let retried = store::transaction("retry_orders", arguments)
            .run_refusable(
                pool,
                |refused: &Vec<RefusedRetry>| !refused.is_empty(),
                |connection, (lane, ids, actor)| {
                    Box::pin(revive_or_hurry_orders(connection, lane, ids, actor))
                },
            )
            .await?;
        refused.extend(retried);
        jobs.wake_in(Duration::ZERO);
    }
    Ok(refused)
}

/// Retries all retryable orders in `state`; returns their number.
pub async fn retry_orders_in_state(
    pool: &PgPool,
    jobs: &JobQueue,
    state: OrderState,
    actor: &AuditActor,
) -> Result<i64, Error> {
    let (mut after, mut retried) = (None, 0);
    loop {
        let page = list_orders(
            pool,
            OrderListQuery { state: Some(state), after, limit: MAX_RETRIES_PER_TX as i64 },
        )
        .await?;
        let ids: Vec<OrderId> = page.iter().map(|order| order.order_id).collect();
        let Some(last) = ids.last().copied() else { return Ok(retried) };
        // Orders in the pipeline are refused.
        let refused = retry_orders(pool, jobs, &ids, actor).await?;
        retried += (ids.len() - refused.len()) as i64;
        after = Some(last);
    }
}

/// Number of orders that would be retried now: of those in `state`, or else of `order_ids`.
pub async fn count_retryable(
    pool: &PgPool,
    order_ids: Vec<OrderId>,
    state: Option<OrderState>,
) -> Result<i64, Error> {
    let count =
        PgOperation::named("count_retryable").expensive().with_timeout(LONG_OPERATION_TIMEOUT);
    let counted = match state {
        Some(state) => store::statement(count, COUNT_RETRYABLE_STATE_SQL).bind(state as i16),
        None => store::statement(count, COUNT_RETRYABLE_IDS_SQL).bind(order_ids),
    };
    counted.bind(ORDER_QUEUE).fetch_value(pool).await
}

/// By jobs and dead letters: both are few, orders are many.
const COUNT_RETRYABLE_STATE_SQL: &str = "SELECT count(*) FROM (
    SELECT job_key FROM dead_jobs WHERE queue = $2 AND $1 = 5
    UNION ALL SELECT job_key FROM jobs WHERE queue = $2 AND $1 < 4
) j JOIN orders o ON o.order_id = j.job_key::int WHERE o.state = $1";

const COUNT_RETRYABLE_IDS_SQL: &str = "SELECT count(*) FROM orders o WHERE o.order_id = ANY ($1) AND (o.state = 5 OR o.state < 4 AND EXISTS (
    SELECT FROM jobs j WHERE j.queue = $2 AND j.job_key = o.order_id::text))";

/// Returns the refused orders, in the order of `order_ids`.
async fn revive_or_hurry_orders(
    connection: &mut PgConnection,
    lane: &Lease,
    order_ids: &[OrderId],
    actor: &AuditActor,
) -> Result<Vec<RefusedRetry>, Error> {
    lane.fence(connection).await?;
    let locked: Vec<LockedOrderRow> = store::statement("lock_orders", LOCK_ORDERS_SQL)
        .bind(order_ids)
        .fetch_all(&mut *connection)
        .await?;
    let (mut states, mut failed_ids, mut other_keys) = (HashMap::new(), Vec::new(), Vec::new());
    for LockedOrderRow { order_id, state } in locked {
        let Some(state) = OrderState::from_number(state.into()) else { continue };
        states.insert(order_id, state);
        match state {
            OrderState::Failed => failed_ids.push(order_id),
            _ => other_keys.push(order_id.to_string()),
        }
    }
    let hurried = hurry_jobs_in_tx(connection, ORDER_QUEUE, &other_keys).await?;
    let hurried: HashSet<String> = hurried.into_iter().collect();
    revive_orders_in_tx(connection, &failed_ids, Some(lane)).await?;
    let (mut refused, mut retried) = (Vec::new(), Vec::new());
    for order_id in order_ids {
        let error = match states.get(order_id) {
            None => OrderRetryError::Unknown,
            Some(OrderState::Failed) => {
                retried.push(*order_id);
                continue;
            }
            Some(state) if !state.is_final() && hurried.contains(&order_id.to_string()) => {
                retried.push(*order_id);
                continue;
            }
            Some(state) => OrderRetryError::NotWaiting(*state),
        };
        refused.push(RefusedRetry { order_id: *order_id, error });
    }
    record_retry_in_tx(connection, actor, &retried, failed_ids.len()).await?;
    Ok(refused)
}

/// One entry for the retried orders of a transaction.
async fn record_retry_in_tx(
    connection: &mut PgConnection,
    actor: &AuditActor,
    retried: &[OrderId],
    revived: usize,
) -> Result<(), Error> {
    let Some((first, others)) = retried.split_first() else { return Ok(()) };
    let mut difference = AuditDifference::default()
        .with_fact("revived", revived)
        .with_fact("made_due", retried.len() - revived);
    let name = if others.is_empty() {
        first.to_string()
    } else {
        let ids: Vec<i32> = retried.iter().map(|order_id| order_id.get()).collect();
        difference = difference.with_fact("order_ids", ids);
        "many".to_owned()
    };
    let entry = AuditEntry::new(AuditAction::OrderRetry, "order", name, &difference);
    record_entry(connection, actor, &entry).await
}

/// Revives failed orders in the state they had reached, with a new job without failures; their
/// history keeps the failure. Without a lane, any live process takes them up. Returns their number.
pub(super) async fn revive_orders_in_tx(
    connection: &mut PgConnection,
    order_ids: &[OrderId],
    lane: Option<&Lease>,
) -> Result<usize, Error> {
    let revived: Vec<OrderId> = store::statement("revive_orders", REVIVE_ORDERS_SQL)
        .bind(order_ids)
        .fetch_values(&mut *connection)
        .await?;
    if revived.is_empty() {
        return Ok(0);
    }
    let keys: Vec<String> = revived.iter().map(OrderId::to_string).collect();
    delete_dead_jobs_in_tx(connection, ORDER_QUEUE, &keys).await?;
    let jobs: Vec<NewJob> =
        keys.into_iter().map(|key| NewJob { key: Some(key), ..NewJob::default() }).collect();
    enqueue_jobs_in_tx(connection, ORDER_QUEUE, lane, &jobs).await?;
    Ok(revived.len())
}

const LOCK_ORDERS_SQL: &str =
    "SELECT order_id, state FROM orders WHERE order_id = ANY ($1) ORDER BY order_id FOR UPDATE";

const REVIVE_ORDERS_SQL: &str = "UPDATE orders SET state = CASE
    WHEN external_at IS NOT NULL THEN 3 WHEN started_at IS NOT NULL THEN 2 ELSE 1 END
WHERE order_id = ANY ($1) AND state = 5 RETURNING order_id";
