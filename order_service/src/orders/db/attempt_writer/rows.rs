//! SQL of the attempt writer: order rows, in one transaction with the changes of their jobs.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use queue::{Backoff, fence_lanes};
use sqlx::PgConnection;
use store::{Result, StatementTarget, mutant, to_storable_text};
use uuid::Uuid;

use super::jobs::{OrderJobChanges, write_job_changes};
use crate::orders::OrderId;
use crate::orders::db::{EndedAttempt, OrderAttempt, OrderAttemptOutcome};

/// Columns of attempts for `unnest`, sorted by id: all replicas lock rows in the same order.
struct OrderAttemptColumns {
    ids: Vec<OrderId>,
    states: Vec<i16>,
    attempts: Vec<i32>,
    started: Vec<Option<DateTime<Utc>>>,
    external: Vec<Option<DateTime<Utc>>>,
    reasons: Vec<Option<String>>,
}

impl OrderAttemptColumns {
    fn from_attempts(mut attempts: Vec<&EndedAttempt>) -> Self {
        attempts.sort_unstable_by_key(|ended| ended.attempt.order_id);
        Self {
            ids: attempts.iter().map(|ended| ended.attempt.order_id).collect(),
            states: attempts.iter().map(|ended| ended.attempt.state as i16).collect(),
            attempts: attempts.iter().map(|ended| counted_attempts(ended)).collect(),
            started: attempts.iter().map(|ended| ended.attempt.started_at).collect(),
            external: attempts.iter().map(|ended| ended.attempt.external_at).collect(),
            reasons: attempts.iter().map(|ended| outcome_reason(&ended.outcome)).collect(),
        }
    }
}

/// The number of the order's counted attempts, including this one.
fn counted_attempts(ended: &EndedAttempt) -> i32 {
    let is_counted = !matches!(ended.outcome, OrderAttemptOutcome::Deferred { .. });
    (ended.attempt.attempts + u32::from(is_counted)).cast_signed()
}

fn outcome_reason(outcome: &OrderAttemptOutcome) -> Option<String> {
    match outcome {
        OrderAttemptOutcome::Finished => None,
        OrderAttemptOutcome::Failed { reason }
        | OrderAttemptOutcome::Deferred { reason }
        | OrderAttemptOutcome::Dead { reason }
        | OrderAttemptOutcome::GivenUp { reason, .. } => Some(reason.clone()),
    }
}

pub(super) async fn finish_orders(
    target: impl StatementTarget,
    attempts: &[EndedAttempt],
    removable_batches: &[Uuid],
) -> Result<()> {
    let columns = OrderAttemptColumns::from_attempts(
        attempts.iter().filter(|ended| ended.outcome == OrderAttemptOutcome::Finished).collect(),
    );
    if columns.ids.is_empty() && removable_batches.is_empty() {
        return Ok(());
    }
    store::statement("finish_orders", FINISH_ORDERS_SQL)
        .bind(&columns.ids)
        .bind(&columns.attempts)
        .bind(&columns.started)
        .bind(&columns.external)
        .bind(removable_batches)
        .execute(target)
        .await?;
    Ok(())
}

/// Result of [`write_attempts`].
#[derive(Debug, Default)]
pub(super) struct OrderAttemptWriteResult {
    /// Time until the first retry is due.
    pub(super) next_due_in: Option<Duration>,
    /// Orders that are retried instead of given up: their data is stored.
    spared_orders: HashSet<OrderId>,
}

impl OrderAttemptWriteResult {
    /// Replaces the requested outcomes by the written ones.
    pub(super) fn correct_outcomes(&self, attempts: &mut [EndedAttempt]) {
        for EndedAttempt { attempt, outcome } in attempts {
            *outcome = written_outcome(attempt, outcome, &self.spared_orders);
        }
    }
}

/// The outcome to write: a given-up order fails, or waits if its data is stored.
fn written_outcome(
    attempt: &OrderAttempt,
    outcome: &OrderAttemptOutcome,
    spared_orders: &HashSet<OrderId>,
) -> OrderAttemptOutcome {
    match outcome {
        OrderAttemptOutcome::GivenUp { reason, .. }
            if spared_orders.contains(&attempt.order_id) =>
        {
            OrderAttemptOutcome::Failed { reason: reason.clone() }
        }
        OrderAttemptOutcome::GivenUp { after, reason } => {
            let after = humantime::format_duration(*after);
            OrderAttemptOutcome::Dead {
                reason: to_storable_text(&format!("given up after {after}: {reason}")),
            }
        }
        outcome => outcome.clone(),
    }
}

/// Writes outcomes of every kind and settles the jobs, fenced by the lanes.
pub(super) async fn write_attempts(
    connection: &mut PgConnection,
    attempts: &[EndedAttempt],
    removable_batches: &[Uuid],
    backoff: Backoff,
) -> Result<OrderAttemptWriteResult> {
    fence_lanes(connection, attempts.iter().map(|ended| &**ended.attempt.origin.lane())).await?;
    lock_orders(connection, attempts).await?;
    finish_orders(&mut *connection, attempts, removable_batches).await?;
    let with_data = wait_orders(connection, attempts).await?;
    let spared_orders = find_spared_orders(attempts, &with_data);
    let attempts: Vec<EndedAttempt> = attempts
        .iter()
        .map(|EndedAttempt { attempt, outcome }| EndedAttempt {
            attempt: attempt.clone(),
            outcome: written_outcome(attempt, outcome, &spared_orders),
        })
        .collect();
    fail_orders(connection, &attempts).await?;
    let jobs = OrderJobChanges::from_attempts(&attempts, &with_data, backoff);
    let next_due_in = write_job_changes(connection, jobs).await?;
    Ok(OrderAttemptWriteResult { next_due_in, spared_orders })
}

/// Locks the orders of all outcomes in id order, like `store_callbacks`, if several of the functions
/// lock some of them: each has an order for its own only.
async fn lock_orders(connection: &mut PgConnection, attempts: &[EndedAttempt]) -> Result<()> {
    let functions: HashSet<&str> =
        attempts.iter().map(|ended| writing_function(&ended.outcome)).collect();
    if functions.len() < 2 {
        return Ok(());
    }
    let ids: Vec<OrderId> = attempts.iter().map(|ended| ended.attempt.order_id).collect();
    store::statement(
        "lock_attempted_orders",
        "SELECT FROM orders WHERE order_id = ANY ($1) ORDER BY order_id FOR NO KEY UPDATE",
    )
    .bind(ids)
    .execute(connection)
    .await?;
    Ok(())
}

/// The function that locks the outcome's order first.
fn writing_function(outcome: &OrderAttemptOutcome) -> &'static str {
    match outcome {
        OrderAttemptOutcome::Finished => "finish_orders",
        OrderAttemptOutcome::Dead { .. } => "fail_orders",
        OrderAttemptOutcome::Failed { .. }
        | OrderAttemptOutcome::Deferred { .. }
        | OrderAttemptOutcome::GivenUp { .. } => "wait_orders",
    }
}

/// The given-up orders that are retried, as their data is stored.
fn find_spared_orders(attempts: &[EndedAttempt], with_data: &HashSet<OrderId>) -> HashSet<OrderId> {
    let mut spared_orders = HashSet::new();
    for EndedAttempt { attempt, outcome } in attempts {
        if matches!(outcome, OrderAttemptOutcome::GivenUp { .. })
            && with_data.contains(&attempt.order_id)
            && !mutant("given_up_with_data")
        {
            spared_orders.insert(attempt.order_id);
        }
    }
    spared_orders
}

async fn fail_orders(connection: &mut PgConnection, attempts: &[EndedAttempt]) -> Result<()> {
    let columns = OrderAttemptColumns::from_attempts(
        attempts
            .iter()
            .filter(|ended| matches!(ended.outcome, OrderAttemptOutcome::Dead { .. }))
            .collect(),
    );
    if columns.ids.is_empty() {
        return Ok(());
    }
    store::statement("fail_orders", FAIL_ORDERS_SQL)
        .bind(&columns.ids)
        .bind(&columns.attempts)
        .bind(&columns.started)
        .bind(&columns.external)
        .bind(&columns.reasons)
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes waiting and given-up attempts; returns the orders whose data is stored. The row locks
/// serialise this with callbacks: a callback that is not seen here sees the job.
async fn wait_orders(
    connection: &mut PgConnection,
    attempts: &[EndedAttempt],
) -> Result<HashSet<OrderId>> {
    let waiting_attempts = attempts.iter().filter(|EndedAttempt { outcome, .. }| {
        outcome.is_retried() || matches!(outcome, OrderAttemptOutcome::GivenUp { .. })
    });
    let columns = OrderAttemptColumns::from_attempts(waiting_attempts.collect());
    if columns.ids.is_empty() {
        return Ok(HashSet::new());
    }
    let with_data: Vec<OrderId> = store::statement("wait_orders", WAIT_ORDERS_SQL)
        .bind(&columns.ids)
        .bind(&columns.attempts)
        .bind(&columns.started)
        .bind(&columns.external)
        .bind(&columns.reasons)
        .bind(&columns.states)
        .fetch_values(connection)
        .await?;
    Ok(with_data.into_iter().collect())
}

const FINISH_ORDERS_SQL: &str = "SELECT finish_orders($1, $2, $3, $4, $5)";
const FAIL_ORDERS_SQL: &str = "SELECT fail_orders($1, $2, $3, $4, $5)";
const WAIT_ORDERS_SQL: &str = "SELECT * FROM wait_orders($1, $2, $3, $4, $5, $6)";
