//! SQL of the attempt writer: order rows and the settlement of their jobs.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use queue::{
    Backoff, JobSettlement, NewJob, bury_new_jobs_in_tx, enqueue_jobs_in_tx, fence_lanes,
    settle_jobs_in_tx,
};
use sqlx::PgConnection;
use store::{Result, StatementTarget, mutant, to_storable_text};
use uuid::Uuid;

use crate::orders::{ORDER_QUEUE, OrderAttempt, OrderAttemptOrigin, OrderAttemptOutcome};

/// Columns of attempts for `unnest`, sorted by id: all replicas lock rows in the same order.
struct OrderAttemptColumns {
    ids: Vec<i32>,
    states: Vec<i16>,
    attempts: Vec<i32>,
    started: Vec<Option<DateTime<Utc>>>,
    external: Vec<Option<DateTime<Utc>>>,
    reasons: Vec<Option<String>>,
}

impl OrderAttemptColumns {
    fn from_attempts(mut attempts: Vec<&(OrderAttempt, OrderAttemptOutcome)>) -> Self {
        attempts.sort_unstable_by_key(|(work, _)| work.order_id);
        let attempt = |(work, end): &&(OrderAttempt, OrderAttemptOutcome)| {
            let counted = !matches!(end, OrderAttemptOutcome::Waiting { counted: false, .. });
            (work.attempts + u32::from(counted)).cast_signed()
        };
        let reason = |(_, end): &&(OrderAttempt, OrderAttemptOutcome)| match end {
            OrderAttemptOutcome::Finished => None,
            OrderAttemptOutcome::Waiting { reason, .. }
            | OrderAttemptOutcome::Failed { reason }
            | OrderAttemptOutcome::GivenUp { reason, .. } => Some(reason.clone()),
        };
        Self {
            ids: attempts.iter().map(|(work, _)| work.order_id).collect(),
            states: attempts.iter().map(|(work, _)| work.state as i16).collect(),
            attempts: attempts.iter().map(attempt).collect(),
            started: attempts.iter().map(|(work, _)| work.started_at).collect(),
            external: attempts.iter().map(|(work, _)| work.external_at).collect(),
            reasons: attempts.iter().map(reason).collect(),
        }
    }
}

pub(super) async fn finish_orders(
    target: impl StatementTarget,
    attempts: &[(OrderAttempt, OrderAttemptOutcome)],
    removable_batches: &[Uuid],
) -> Result<()> {
    let columns = OrderAttemptColumns::from_attempts(
        attempts.iter().filter(|(_, end)| *end == OrderAttemptOutcome::Finished).collect(),
    );
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
    spared_orders: HashSet<i32>,
}

impl OrderAttemptWriteResult {
    /// Replaces the requested outcomes by the written ones.
    pub(super) fn correct_outcomes(&self, attempts: &mut [(OrderAttempt, OrderAttemptOutcome)]) {
        for (work, end) in attempts {
            *end = written_outcome(work, end, &self.spared_orders);
        }
    }
}

/// The outcome to write: a given-up order fails, or waits if its data is stored.
fn written_outcome(
    attempt: &OrderAttempt,
    outcome: &OrderAttemptOutcome,
    spared_orders: &HashSet<i32>,
) -> OrderAttemptOutcome {
    match outcome {
        OrderAttemptOutcome::GivenUp { reason, .. }
            if spared_orders.contains(&attempt.order_id) =>
        {
            OrderAttemptOutcome::Waiting { reason: reason.clone(), counted: true }
        }
        OrderAttemptOutcome::GivenUp { after, reason } => {
            let after = humantime::format_duration(*after);
            OrderAttemptOutcome::Failed {
                reason: to_storable_text(&format!("given up after {after}: {reason}")),
            }
        }
        end => end.clone(),
    }
}

/// Writes outcomes of every kind and settles the jobs, fenced by the lanes.
pub(super) async fn write_attempts(
    connection: &mut PgConnection,
    attempts: &[(OrderAttempt, OrderAttemptOutcome)],
    removable_batches: &[Uuid],
    backoff: Backoff,
) -> Result<OrderAttemptWriteResult> {
    fence_lanes(connection, attempts.iter().map(|(work, _)| &**work.origin.lane())).await?;
    finish_orders(&mut *connection, attempts, removable_batches).await?;
    let with_data = wait_orders(connection, attempts).await?;
    let given_up_attempts =
        attempts.iter().filter(|(_, end)| matches!(end, OrderAttemptOutcome::GivenUp { .. }));
    let spares = |id: &i32| with_data.contains(id) && !mutant("given_up_with_data");
    let spared_orders = given_up_attempts.map(|(work, _)| work.order_id).filter(spares).collect();
    let attempts: Vec<(OrderAttempt, OrderAttemptOutcome)> = attempts
        .iter()
        .map(|(work, end)| (work.clone(), written_outcome(work, end, &spared_orders)))
        .collect();
    fail_orders(connection, &attempts).await?;
    let (mut job_outcomes, mut new_jobs, mut dead_jobs) = (Vec::new(), BTreeMap::new(), Vec::new());
    for (work, end) in &attempts {
        match (
            &work.origin,
            decide_job_outcome(work, end, with_data.contains(&work.order_id), backoff),
        ) {
            (OrderAttemptOrigin::Retried(job), fate) => job_outcomes.push(((**job).clone(), fate)),
            (
                OrderAttemptOrigin::Accepted(batch),
                JobSettlement::Retry { delay, reason, counts_attempt: counted, .. },
            ) => {
                let job = NewJob {
                    delay,
                    attempts: u32::from(counted),
                    last_error: Some(reason),
                    ..build_order_job(work)
                };
                let lane =
                    new_jobs.entry(batch.lane.id).or_insert_with(|| (&batch.lane, Vec::new()));
                lane.1.push(job);
            }
            (OrderAttemptOrigin::Accepted(_), JobSettlement::Bury { reason }) => {
                dead_jobs.push((build_order_job(work), reason))
            }
            (OrderAttemptOrigin::Accepted(_), JobSettlement::Complete) => {}
        }
    }
    let mut next_due_in = settle_jobs_in_tx(connection, ORDER_QUEUE, &job_outcomes).await?;
    bury_new_jobs_in_tx(connection, ORDER_QUEUE, &dead_jobs).await?;
    // Into the lane of acceptance: this process claims the jobs, or its adopter does.
    for (lane, jobs) in new_jobs.into_values() {
        next_due_in = next_due_in.into_iter().chain(jobs.iter().map(|job| job.delay)).min();
        enqueue_jobs_in_tx(connection, ORDER_QUEUE, Some(lane), &jobs).await?;
    }
    Ok(OrderAttemptWriteResult { next_due_in, spared_orders })
}

/// The settlement of an order's job. `has_data`: the stored row has the data, perhaps
/// since a moment ago.
fn decide_job_outcome(
    attempt: &OrderAttempt,
    outcome: &OrderAttemptOutcome,
    has_data: bool,
    backoff: Backoff,
) -> JobSettlement {
    match outcome {
        OrderAttemptOutcome::Finished => JobSettlement::Complete,
        OrderAttemptOutcome::Failed { reason } | OrderAttemptOutcome::GivenUp { reason, .. } => {
            JobSettlement::Bury { reason: reason.clone() }
        }
        OrderAttemptOutcome::Waiting { reason, counted } => {
            let failures = match &attempt.origin {
                OrderAttemptOrigin::Accepted(_) => 0,
                OrderAttemptOrigin::Retried(job) => job.recent_failures(),
            };
            // The callback arrived while the attempt was ending: retry immediately.
            let delay = match has_data && attempt.data.is_none() {
                true => Duration::ZERO,
                false if *counted => backoff.random_delay(failures + 1),
                // Nothing was tried: the breaker limits the rate, and a short backoff notices the
                // peer's return.
                false => backoff.random_delay(failures.min(2)),
            };
            let if_hurried = backoff.random_delay(1);
            JobSettlement::Retry {
                delay,
                hurried_delay: if_hurried,
                reason: reason.clone(),
                counts_attempt: *counted,
            }
        }
    }
}

fn build_order_job(attempt: &OrderAttempt) -> NewJob {
    NewJob { key: Some(attempt.order_id.to_string()), ..NewJob::default() }
}

async fn fail_orders(
    connection: &mut PgConnection,
    attempts: &[(OrderAttempt, OrderAttemptOutcome)],
) -> Result<()> {
    let columns = OrderAttemptColumns::from_attempts(
        attempts
            .iter()
            .filter(|(_, end)| matches!(end, OrderAttemptOutcome::Failed { .. }))
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
    attempts: &[(OrderAttempt, OrderAttemptOutcome)],
) -> Result<HashSet<i32>> {
    let is_waiting = |(_, end): &&(OrderAttempt, OrderAttemptOutcome)| {
        matches!(end, OrderAttemptOutcome::Waiting { .. } | OrderAttemptOutcome::GivenUp { .. })
    };
    let columns = OrderAttemptColumns::from_attempts(attempts.iter().filter(is_waiting).collect());
    if columns.ids.is_empty() {
        return Ok(HashSet::new());
    }
    let with_data: Vec<i32> = store::statement("wait_orders", WAIT_ORDERS_SQL)
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
