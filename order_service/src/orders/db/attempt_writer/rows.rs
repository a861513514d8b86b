//! SQL of the attempt writer: order rows and the settlement of their jobs.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use queue::{
    Backoff, Job, JobSettlement, NewJob, bury_new_jobs_in_tx, enqueue_jobs_in_tx, fence_lanes,
    settle_jobs_in_tx,
};
use sqlx::PgConnection;
use store::{Lease, Result, StatementTarget, mutant, to_storable_text};
use uuid::Uuid;

use crate::orders::db::{ORDER_QUEUE, OrderAttempt, OrderAttemptOrigin, OrderAttemptOutcome};

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
        attempts.sort_unstable_by_key(|(attempt, _)| attempt.order_id);
        Self {
            ids: attempts.iter().map(|(attempt, _)| attempt.order_id).collect(),
            states: attempts.iter().map(|(attempt, _)| attempt.state as i16).collect(),
            attempts: attempts
                .iter()
                .map(|(attempt, outcome)| counted_attempts(attempt, outcome))
                .collect(),
            started: attempts.iter().map(|(attempt, _)| attempt.started_at).collect(),
            external: attempts.iter().map(|(attempt, _)| attempt.external_at).collect(),
            reasons: attempts.iter().map(|(_, outcome)| outcome_reason(outcome)).collect(),
        }
    }
}

/// The number of the order's counted attempts, including this one.
fn counted_attempts(attempt: &OrderAttempt, outcome: &OrderAttemptOutcome) -> i32 {
    let is_counted = !matches!(outcome, OrderAttemptOutcome::Deferred { .. });
    (attempt.attempts + u32::from(is_counted)).cast_signed()
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
    attempts: &[(OrderAttempt, OrderAttemptOutcome)],
    removable_batches: &[Uuid],
) -> Result<()> {
    let columns = OrderAttemptColumns::from_attempts(
        attempts.iter().filter(|(_, outcome)| *outcome == OrderAttemptOutcome::Finished).collect(),
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
        for (attempt, outcome) in attempts {
            *outcome = written_outcome(attempt, outcome, &self.spared_orders);
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
    attempts: &[(OrderAttempt, OrderAttemptOutcome)],
    removable_batches: &[Uuid],
    backoff: Backoff,
) -> Result<OrderAttemptWriteResult> {
    fence_lanes(connection, attempts.iter().map(|(attempt, _)| &**attempt.origin.lane())).await?;
    lock_orders(connection, attempts).await?;
    finish_orders(&mut *connection, attempts, removable_batches).await?;
    let with_data = wait_orders(connection, attempts).await?;
    let spared_orders = find_spared_orders(attempts, &with_data);
    let attempts: Vec<(OrderAttempt, OrderAttemptOutcome)> = attempts
        .iter()
        .map(|(attempt, outcome)| {
            (attempt.clone(), written_outcome(attempt, outcome, &spared_orders))
        })
        .collect();
    fail_orders(connection, &attempts).await?;
    let jobs = OrderJobChanges::from_attempts(&attempts, &with_data, backoff);
    let next_due_in = write_job_changes(connection, jobs).await?;
    Ok(OrderAttemptWriteResult { next_due_in, spared_orders })
}

/// Locks the orders of all outcomes in id order, like `store_callbacks`, if several of the functions
/// lock some of them: each has an order for its own only.
async fn lock_orders(
    connection: &mut PgConnection,
    attempts: &[(OrderAttempt, OrderAttemptOutcome)],
) -> Result<()> {
    let functions: HashSet<&str> =
        attempts.iter().map(|(_, outcome)| writing_function(outcome)).collect();
    if functions.len() < 2 {
        return Ok(());
    }
    let ids: Vec<i32> = attempts.iter().map(|(attempt, _)| attempt.order_id).collect();
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
fn find_spared_orders(
    attempts: &[(OrderAttempt, OrderAttemptOutcome)],
    with_data: &HashSet<i32>,
) -> HashSet<i32> {
    let mut spared_orders = HashSet::new();
    for (attempt, outcome) in attempts {
        if matches!(outcome, OrderAttemptOutcome::GivenUp { .. })
            && with_data.contains(&attempt.order_id)
            && !mutant("given_up_with_data")
        {
            spared_orders.insert(attempt.order_id);
        }
    }
    spared_orders
}

/// What becomes of the jobs of attempted orders.
#[derive(Default)]
struct OrderJobChanges<'a> {
    settlements: Vec<(Job, JobSettlement)>,
    /// New jobs by the id of their lane: that of acceptance, so that this process claims them, or
    /// its adopter does.
    new_jobs: BTreeMap<i64, (&'a Lease, Vec<NewJob>)>,
    /// New dead letters with their reasons.
    dead_jobs: Vec<(NewJob, String)>,
}

impl<'a> OrderJobChanges<'a> {
    fn from_attempts(
        attempts: &'a [(OrderAttempt, OrderAttemptOutcome)],
        with_data: &HashSet<i32>,
        backoff: Backoff,
    ) -> Self {
        let mut changes = Self::default();
        for (attempt, outcome) in attempts {
            let has_data = with_data.contains(&attempt.order_id);
            changes
                .add_settlement(attempt, decide_job_outcome(attempt, outcome, has_data, backoff));
        }
        changes
    }

    fn add_settlement(&mut self, attempt: &'a OrderAttempt, settlement: JobSettlement) {
        match (&attempt.origin, settlement) {
            (OrderAttemptOrigin::Retried(job), settlement) => {
                self.settlements.push(((**job).clone(), settlement))
            }
            (
                OrderAttemptOrigin::Accepted(batch),
                JobSettlement::Retry { delay, reason, counts_attempt, .. },
            ) => {
                let job = NewJob {
                    delay,
                    attempts: u32::from(counts_attempt),
                    last_error: Some(reason),
                    ..build_order_job(attempt)
                };
                let lane_jobs = self.new_jobs.entry(batch.lane.id);
                lane_jobs.or_insert_with(|| (&*batch.lane, Vec::new())).1.push(job);
            }
            (OrderAttemptOrigin::Accepted(_), JobSettlement::Bury { reason }) => {
                self.dead_jobs.push((build_order_job(attempt), reason))
            }
            (OrderAttemptOrigin::Accepted(_), JobSettlement::Complete) => {}
        }
    }
}

/// Returns the time until the first retry is due.
async fn write_job_changes(
    connection: &mut PgConnection,
    changes: OrderJobChanges<'_>,
) -> Result<Option<Duration>> {
    let OrderJobChanges { settlements, new_jobs, dead_jobs } = changes;
    let mut next_due_in = settle_jobs_in_tx(connection, ORDER_QUEUE, &settlements).await?;
    bury_new_jobs_in_tx(connection, ORDER_QUEUE, &dead_jobs).await?;
    for (lane, jobs) in new_jobs.into_values() {
        next_due_in = next_due_in.into_iter().chain(jobs.iter().map(|job| job.delay)).min();
        enqueue_jobs_in_tx(connection, ORDER_QUEUE, Some(lane), &jobs).await?;
    }
    Ok(next_due_in)
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
        OrderAttemptOutcome::Dead { reason } | OrderAttemptOutcome::GivenUp { reason, .. } => {
            JobSettlement::Bury { reason: reason.clone() }
        }
        OrderAttemptOutcome::Failed { reason } | OrderAttemptOutcome::Deferred { reason } => {
            let counts_attempt = matches!(outcome, OrderAttemptOutcome::Failed { .. });
            let failures = match &attempt.origin {
                OrderAttemptOrigin::Accepted(_) => 0,
                OrderAttemptOrigin::Retried(job) => job.recent_failures(),
            };
            // The callback arrived while the attempt was ending: retry immediately.
            let delay = match has_data && attempt.data.is_none() {
                true => Duration::ZERO,
                false if counts_attempt => backoff.random_delay(failures + 1),
                // Nothing was tried: the breaker limits the rate, and a short backoff notices the
                // peer's return.
                false => backoff.random_delay(failures.min(2)),
            };
            let if_hurried = backoff.random_delay(1);
            JobSettlement::Retry {
                delay,
                hurried_delay: if_hurried,
                reason: reason.clone(),
                counts_attempt,
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
            .filter(|(_, outcome)| matches!(outcome, OrderAttemptOutcome::Dead { .. }))
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
    let waiting_attempts = attempts.iter().filter(|(_, outcome)| {
        outcome.is_retried() || matches!(outcome, OrderAttemptOutcome::GivenUp { .. })
    });
    let columns = OrderAttemptColumns::from_attempts(waiting_attempts.collect());
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
