//! Jobs of attempted orders: their settlement, or new ones for accepted orders that wait.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use queue::{
    Backoff, Job, JobSettlement, NewJob, bury_new_jobs_in_tx, enqueue_jobs_in_tx, settle_jobs_in_tx,
};
use sqlx::PgConnection;
use store::{Lease, LeaseId, Result};

use crate::orders::OrderId;
use crate::orders::db::{
    EndedAttempt, ORDER_QUEUE, OrderAttempt, OrderAttemptOrigin, OrderAttemptOutcome,
};

/// What becomes of the jobs of attempted orders.
#[derive(Default)]
pub(super) struct OrderJobChanges<'a> {
    settlements: Vec<(Job, JobSettlement)>,
    /// New jobs by the id of their lane: that of acceptance, so that this process claims them, or
    /// its adopter does.
    new_jobs: BTreeMap<LeaseId, (&'a Lease, Vec<NewJob>)>,
    /// New dead letters with their reasons.
    dead_jobs: Vec<(NewJob, String)>,
}

impl<'a> OrderJobChanges<'a> {
    pub(super) fn from_attempts(
        attempts: &'a [EndedAttempt],
        with_data: &HashSet<OrderId>,
        backoff: Backoff,
    ) -> Self {
        let mut changes = Self::default();
        for ended in attempts {
            let has_data = with_data.contains(&ended.attempt.order_id);
            changes.add_settlement(&ended.attempt, decide_job_outcome(ended, has_data, backoff));
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
pub(super) async fn write_job_changes(
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
fn decide_job_outcome(ended: &EndedAttempt, has_data: bool, backoff: Backoff) -> JobSettlement {
    let EndedAttempt { attempt, outcome } = ended;
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
