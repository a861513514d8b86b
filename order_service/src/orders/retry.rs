//! Reviving failed orders and hurrying waiting ones, at an operator's word.

use std::time::Duration;

use queue::{Jobs, NewJob, enqueue_in_tx, forget_dead_in_tx, hurry_in_tx};
use sqlx::{PgConnection, PgPool};
use store::{Error, Lease, run_tx_refusable};

use super::{QUEUE, State};

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

/// Revives a failed order with no attempts used up, or makes a waiting one due now.
pub async fn retry(pool: &PgPool, jobs: &Jobs, order_id: i32) -> Result<(), RetryError> {
    let lane = jobs.lane();
    let is_refused = |verdict: &Result<(), RetryError>| verdict.is_err();
    let verdict = run_tx_refusable(pool, "retry_order", is_refused, move |connection| {
        let lane = lane.clone();
        Box::pin(async move { revive_or_hurry(connection, &lane, order_id).await })
    });
    verdict.await??;
    jobs.wake_in(Duration::ZERO);
    Ok(())
}

async fn revive_or_hurry(
    connection: &mut PgConnection,
    lane: &Lease,
    order_id: i32,
) -> Result<Result<(), RetryError>, Error> {
    lane.fence(connection).await?;
    let state: Option<i16> =
        sqlx::query_scalar("SELECT state FROM orders WHERE order_id = $1 FOR UPDATE -- lock_order")
            .bind(order_id)
            .fetch_optional(&mut *connection)
            .await?;
    let Some(state) = state.and_then(|state| State::from_number(state.into())) else {
        return Ok(Err(RetryError::Unknown));
    };
    let key = vec![order_id.to_string()];
    if state != State::Failed {
        let waiting = !hurry_in_tx(connection, QUEUE, &key).await?.is_empty();
        return Ok(if waiting && !state.is_end() { Ok(()) } else { Err(RetryError::NotWaiting(state)) });
    }
    revive_in_tx(connection, order_id, Some(lane)).await?;
    Ok(Ok(()))
}

/// Lets a failed order go on from the state it had reached, with no attempts used up; its history keeps the failure. Without a
/// lane some living process takes it up.
pub(super) async fn revive_in_tx(
    connection: &mut PgConnection,
    order_id: i32,
    lane: Option<&Lease>,
) -> Result<(), Error> {
    let revived = sqlx::query(
        "-- revive_order
        UPDATE orders SET state = CASE WHEN external_at IS NOT NULL THEN 3 WHEN started_at IS NOT NULL THEN 2 ELSE 1 END
        WHERE order_id = $1 AND state = 5",
    );
    if revived.bind(order_id).execute(&mut *connection).await?.rows_affected() == 1 {
        forget_dead_in_tx(connection, QUEUE, &[order_id.to_string()]).await?;
        let job = NewJob { key: Some(order_id.to_string()), ..NewJob::default() };
        enqueue_in_tx(connection, QUEUE, lane, &[job]).await?;
    }
    Ok(())
}
