//! Reviving failed orders and hurrying waiting ones, at an operator's word.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use queue::{Jobs, NewJob, enqueue_in_tx, forget_dead_in_tx, hurry_in_tx};
use sqlx::{PgConnection, PgPool};
use store::{Error, LONG, Lease, Operation, run, run_tx_refusable};

use super::{Listing, QUEUE, State, list};

/// Why an order cannot be retried.
#[derive(Debug, Clone)]
pub enum RetryError {
    /// There is no such order.
    Unknown,
    /// It has finished, or is being worked on.
    NotWaiting(State),
    /// The database.
    Database(Error),
}

impl From<Error> for RetryError {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

/// Orders in one transaction at most.
const TOGETHER: usize = 1000;

/// Revives a failed order with no attempts used up, or makes a waiting one due now.
pub async fn retry(pool: &PgPool, jobs: &Jobs, order_id: i32) -> Result<(), RetryError> {
    let refused = retry_all(pool, jobs, &[order_id]).await?;
    refused.into_iter().next().map_or(Ok(()), |(_, refusal)| Err(refusal))
}

/// The same for many orders, some in each transaction; which cannot be retried does not keep the others from it.
pub async fn retry_all(
    pool: &PgPool,
    jobs: &Jobs,
    order_ids: &[i32],
) -> Result<Vec<(i32, RetryError)>, Error> {
    let mut refused = Vec::new();
    for ids in order_ids.chunks(TOGETHER) {
        let (lane, ids) = (jobs.lane(), ids.to_vec());
        let denies = |refused: &Vec<(i32, RetryError)>| !refused.is_empty();
        let retried = run_tx_refusable(pool, "retry_orders", denies, move |connection| {
            let (lane, ids) = (lane.clone(), ids.clone());
            Box::pin(async move { revive_or_hurry(connection, &lane, &ids).await })
        });
        refused.extend(retried.await?);
        jobs.wake_in(Duration::ZERO);
    }
    Ok(refused)
}

/// Retries all orders in `state` that can be; how many.
pub async fn retry_in_state(pool: &PgPool, jobs: &Jobs, state: State) -> Result<i64, Error> {
    let (mut after, mut retried) = (None, 0);
    loop {
        let page = list(pool, Listing { state: Some(state), after, limit: TOGETHER as i64 }).await?;
        let ids: Vec<i32> = page.iter().map(|order| order.order_id).collect();
        let Some(last) = ids.last().copied() else { return Ok(retried) };
        // Those that are being worked on are refused.
        let refused = retry_all(pool, jobs, &ids).await?;
        retried += (ids.len() - refused.len()) as i64;
        after = Some(last);
    }
}

/// How many of these orders, or (if there are none) of those in `state`, would be retried now.
pub async fn count(pool: &PgPool, order_ids: Vec<i32>, state: Option<State>) -> Result<i64, Error> {
    run(pool, Operation::named("count_retryable").expensive().within(LONG), move |connection| {
        let order_ids = order_ids.clone();
        Box::pin(async move {
            let counted = match state {
                Some(state) => sqlx::query_scalar(COUNT_STATE).bind(state as i16).bind(QUEUE),
                None => sqlx::query_scalar(COUNT_IDS).bind(order_ids).bind(QUEUE),
            };
            Ok(counted.fetch_one(connection).await?)
        })
    })
    .await
}

/// By what waits and what lies among the dead letters: there are few of both, and many orders.
const COUNT_STATE: &str = "-- count_retryable
SELECT count(*) FROM (
    SELECT job_key FROM dead_jobs WHERE queue = $2 AND $1 = 5
    UNION ALL SELECT job_key FROM jobs WHERE queue = $2 AND $1 < 4
) j JOIN orders o ON o.order_id = j.job_key::int WHERE o.state = $1";

const COUNT_IDS: &str = "-- count_retryable
SELECT count(*) FROM orders o WHERE o.order_id = ANY ($1) AND (o.state = 5 OR o.state < 4 AND EXISTS (
    SELECT FROM jobs j WHERE j.queue = $2 AND j.job_key = o.order_id::text))";

/// Those that are refused, in the order in which they were asked for.
async fn revive_or_hurry(
    connection: &mut PgConnection,
    lane: &Lease,
    order_ids: &[i32],
) -> Result<Vec<(i32, RetryError)>, Error> {
    lane.fence(connection).await?;
    let locked: Vec<(i32, i16)> = sqlx::query_as(
        "SELECT order_id, state FROM orders WHERE order_id = ANY ($1) ORDER BY order_id FOR UPDATE -- lock_orders",
    )
    .bind(order_ids)
    .fetch_all(&mut *connection)
    .await?;
    let states: HashMap<i32, State> =
        locked.into_iter().filter_map(|(id, state)| Some((id, State::from_number(state.into())?))).collect();
    let of = |is_failed: bool| {
        let chosen = states.iter().filter(move |(_, state)| (**state == State::Failed) == is_failed);
        chosen.map(|(id, _)| *id).collect::<Vec<i32>>()
    };
    let keys: Vec<String> = of(false).iter().map(i32::to_string).collect();
    let hurried: HashSet<String> = hurry_in_tx(connection, QUEUE, &keys).await?.into_iter().collect();
    revive_in_tx(connection, &of(true), Some(lane)).await?;
    let refusal = |id: &i32| match states.get(id) {
        None => Some((*id, RetryError::Unknown)),
        Some(State::Failed) => None,
        Some(state) if !state.is_end() && hurried.contains(&id.to_string()) => None,
        Some(state) => Some((*id, RetryError::NotWaiting(*state))),
    };
    Ok(order_ids.iter().filter_map(refusal).collect())
}

/// Lets failed orders go on from the state they had reached, with no attempts used up; their history keeps the failure.
/// Without a lane some living process takes them up.
pub(super) async fn revive_in_tx(
    connection: &mut PgConnection,
    order_ids: &[i32],
    lane: Option<&Lease>,
) -> Result<(), Error> {
    let revived: Vec<i32> = sqlx::query_scalar(
        "-- revive_orders
        UPDATE orders SET state = CASE WHEN external_at IS NOT NULL THEN 3 WHEN started_at IS NOT NULL THEN 2 ELSE 1 END
        WHERE order_id = ANY ($1) AND state = 5 RETURNING order_id",
    )
    .bind(order_ids)
    .fetch_all(&mut *connection)
    .await?;
    if revived.is_empty() {
        return Ok(());
    }
    let keys: Vec<String> = revived.iter().map(i32::to_string).collect();
    forget_dead_in_tx(connection, QUEUE, &keys).await?;
    let jobs: Vec<NewJob> =
        keys.into_iter().map(|key| NewJob { key: Some(key), ..NewJob::default() }).collect();
    enqueue_in_tx(connection, QUEUE, lane, &jobs).await?;
    Ok(())
}
