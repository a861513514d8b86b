//! Attempt writer: group commit of attempt outcomes.
//!
//! - Shape: first attempts that finished take one statement. All other outcomes, and those of
//!   retried orders, take one transaction together with their jobs.
//! - Lock order: lanes, orders, jobs.
//! - Promise: the lane's fencing token guards every outcome but finishing, which is idempotent. An
//!   outcome is written until the database takes it; only what it refuses even as a retry stays in
//!   its batch or job.

mod rows;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use queue::{Backoff, JobQueue};
use sqlx::PgPool;
use store::{Coalescer, Error, open_single_connection_pool, to_storable_text};
use uuid::Uuid;

use super::{
    AcceptedBatch, OrderAttempt, OrderAttemptOrigin, OrderAttemptOutcome, OrderState, OutcomeKind,
    OutcomeNotice, adopt, paced_batches,
};

/// Delay before an order is requeued whose outcome the database refused in any form.
const REFUSED_RETRY_INTERVAL: Duration = Duration::from_secs(15);

/// Backoff of attempts, and when they end.
#[derive(Debug, Clone, Copy)]
pub struct GiveUpPolicy {
    /// Backoff between attempts.
    pub backoff: Backoff,
    /// Time after the first failed attempt when an order is given up, ...
    pub after: Duration,
    /// ... if it also failed this often since the last retry request: a single clock reading never
    /// gives an order up.
    pub min_attempts: u32,
}

/// Receiver of committed outcomes in this process.
pub trait OutcomeSink: Send + Sync {
    /// Publishes outcomes after their commit.
    fn publish_outcomes(&self, notices: &[OutcomeNotice]);
    /// Polls an order that another process owns now.
    fn follow_order(&self, order_id: i32);
}

/// Handle of the writer; clones share it.
#[derive(Clone)]
pub struct OrderAttemptWriter {
    coalescer: Coalescer<(OrderAttempt, OrderAttemptOutcome)>,
    doubtful_batches: Coalescer<Uuid>,
}

struct OrderAttemptBatchWriter {
    pool: PgPool,
    jobs: JobQueue,
    give_up: GiveUpPolicy,
    outcome_sink: Arc<dyn OutcomeSink>,
    doubtful_batches: Coalescer<Uuid>,
}

impl OrderAttemptWriter {
    /// Starts the writing task. `outcome_sink` receives every outcome after its commit.
    pub fn start(
        pool: PgPool,
        jobs: JobQueue,
        give_up: GiveUpPolicy,
        outcome_sink: Arc<dyn OutcomeSink>,
    ) -> Self {
        let recovery_parts = (pool.clone(), jobs.clone());
        let doubtful_batches = Coalescer::spawn("recover_batches", 1024, 1024, move |batches| {
            let (pool, jobs) = recovery_parts.clone();
            async move { adopt::recover_batches(&pool, &jobs, batches).await }
        });
        let pool = open_single_connection_pool(&pool);
        let writer = Arc::new(OrderAttemptBatchWriter {
            pool,
            jobs,
            give_up,
            outcome_sink,
            doubtful_batches: doubtful_batches.clone(),
        });
        let coalescer =
            Coalescer::spawn_fair("end_orders", 65_536, paced_batches(8192), move |batch| {
                let writer = writer.clone();
                async move { writer.write_batch(batch).await }
            });
        Self { coalescer, doubtful_batches }
    }

    /// Queues an outcome; the writer retries until it is written.
    pub async fn write(&self, attempt: OrderAttempt, outcome: OrderAttemptOutcome) {
        self.coalescer.push_for(attempt.turn, (attempt, outcome)).await;
    }

    /// Waits until every queued outcome is written.
    pub async fn wait_until_drained(&self) {
        self.coalescer.wait_until_drained().await;
        self.doubtful_batches.wait_until_drained().await;
    }

    /// Recovery of batches whose commit outcome is unknown: their stored orders become jobs.
    pub fn doubtful_batches(&self) -> Coalescer<Uuid> {
        self.doubtful_batches.clone()
    }
}

impl OrderAttemptBatchWriter {
    async fn write_batch(&self, batch: Vec<(OrderAttempt, OrderAttemptOutcome)>) {
        let emptied_batches = count_out_orders(&batch);
        let decided =
            batch.into_iter().map(|(attempt, outcome)| self.decide_outcome(attempt, outcome));
        let (plain_finishes, mut others): (Vec<_>, Vec<_>) =
            decided.partition(|(attempt, outcome)| is_plain_finish(attempt, outcome));
        // A batch's row is deleted in the write of its last order: the later of the two writes.
        if !plain_finishes.is_empty() {
            let removable_ids =
                if others.is_empty() { removable_batch_ids(&emptied_batches) } else { Vec::new() };
            if !self.write_finished_attempts(&plain_finishes, &removable_ids).await {
                others.extend(plain_finishes);
            }
        }
        if !others.is_empty() {
            self.write_attempts_with_jobs(others, &emptied_batches).await;
        }
    }

    /// Applies the give-up policy and makes error messages storable.
    fn decide_outcome(
        &self,
        attempt: OrderAttempt,
        outcome: OrderAttemptOutcome,
    ) -> (OrderAttempt, OrderAttemptOutcome) {
        let outcome = match outcome {
            OrderAttemptOutcome::Failed { reason } if self.is_given_up(&attempt) => {
                OrderAttemptOutcome::GivenUp {
                    after: self.give_up.after,
                    reason: to_storable_text(&reason),
                }
            }
            OrderAttemptOutcome::Failed { reason } => {
                OrderAttemptOutcome::Failed { reason: to_storable_text(&reason) }
            }
            OrderAttemptOutcome::Deferred { reason } => {
                OrderAttemptOutcome::Deferred { reason: to_storable_text(&reason) }
            }
            OrderAttemptOutcome::Dead { reason } => {
                OrderAttemptOutcome::Dead { reason: to_storable_text(&reason) }
            }
            OrderAttemptOutcome::GivenUp { after, reason } => {
                OrderAttemptOutcome::GivenUp { after, reason: to_storable_text(&reason) }
            }
            OrderAttemptOutcome::Finished => OrderAttemptOutcome::Finished,
        };
        (attempt, outcome)
    }

    /// An order whose data is stored is not given up: its events may be posted.
    fn is_given_up(&self, attempt: &OrderAttempt) -> bool {
        let OrderAttemptOrigin::Retried(job) = &attempt.origin else { return false };
        (attempt.data.is_none() || store::mutant("given_up_with_data"))
            && job.time_in_queue() >= self.give_up.after
            && job.recent_failures() + 1 >= self.give_up.min_attempts
    }

    /// Writes finished first attempts, retrying transient errors; false if the
    /// database refuses the batch.
    async fn write_finished_attempts(
        &self,
        attempts: &[(OrderAttempt, OrderAttemptOutcome)],
        removable_ids: &[Uuid],
    ) -> bool {
        store::fail_point("finishing");
        loop {
            match rows::finish_orders(&self.pool, attempts, removable_ids).await {
                Ok(()) => {
                    store::fail_point("finished");
                    self.publish_written_outcomes(attempts);
                    return true;
                }
                // A batch that times out is split.
                Err(error) if error.is_timeout() && attempts.len() > 1 => return false,
                Err(error) if error.is_transient() => wait_after_error(&error).await,
                Err(_) => return false,
            }
        }
    }

    /// Writes all other outcomes, retrying transient errors. A refused batch is bisected, so that
    /// one bad order does not block the others.
    async fn write_attempts_with_jobs(
        &self,
        attempts: Vec<(OrderAttempt, OrderAttemptOutcome)>,
        emptied_batches: &[Arc<AcceptedBatch>],
    ) {
        let mut parts = vec![attempts];
        while let Some(mut part) = parts.pop() {
            part.retain(|(attempt, _)| !self.leave_if_lane_lost(attempt));
            let removable_ids =
                if parts.is_empty() { removable_batch_ids(emptied_batches) } else { Vec::new() };
            let arguments = (part.clone(), removable_ids, self.give_up.backoff);
            let result = store::transaction("settle_orders", arguments)
                .run(&self.pool, |connection, (attempts, removable_ids, backoff)| {
                    Box::pin(rows::write_attempts(connection, attempts, removable_ids, *backoff))
                })
                .await;
            match result {
                Ok(settled) => {
                    settled.correct_outcomes(&mut part);
                    self.publish_written_outcomes(&part);
                    settled.next_due_in.into_iter().for_each(|delay| self.jobs.wake_in(delay));
                }
                Err(Error::Fenced { .. }) => parts.push(part),
                Err(error) if error.is_transient() && !(error.is_timeout() && part.len() > 1) => {
                    wait_after_error(&error).await;
                    parts.push(part);
                }
                Err(error) if part.len() > 1 => {
                    tracing::warn!(%error, orders = part.len(), "the database does not take orders; trying by halves");
                    parts.push(part.split_off(part.len() / 2));
                    parts.push(part);
                }
                Err(error) => parts.extend(
                    part.pop().and_then(|refused| self.handle_refused_attempt(refused, &error)),
                ),
            }
        }
    }

    /// Handles an outcome that the database refuses for one order: the order is written as waiting
    /// instead, and retried as a job. If that is refused too, the order stays in its batch or job
    /// and is requeued from there.
    fn handle_refused_attempt(
        &self,
        (mut attempt, outcome): (OrderAttempt, OrderAttemptOutcome),
        error: &Error,
    ) -> Option<Vec<(OrderAttempt, OrderAttemptOutcome)>> {
        tracing::error!(order_id = attempt.order_id, %error, code = "CONSISTENCY_ERROR", "the end of an order is refused");
        metrics::counter!("order_ends_refused_total").increment(1);
        if !outcome.is_retried() {
            let reason = to_storable_text(&format!(
                "CONSISTENCY_ERROR: the end of the order is refused: {error}"
            ));
            // Undo the uncommitted final state: the last stage is repeated, which posts nothing
            // twice.
            if attempt.state == OrderState::ProcessFinished {
                attempt.state = OrderState::FinishedExternalInteraction;
            }
            return Some(vec![(attempt, OrderAttemptOutcome::Failed { reason })]);
        }
        self.requeue_later(attempt);
        None
    }

    /// Requeues an order after [`REFUSED_RETRY_INTERVAL`]. A job is claimed again; an accepted
    /// order becomes a job through its batch's row.
    fn requeue_later(&self, attempt: OrderAttempt) {
        let (jobs, doubtful) = (self.jobs.clone(), self.doubtful_batches.clone());
        if let OrderAttemptOrigin::Accepted(batch) = &attempt.origin {
            batch.has_left_orders.store(true, Ordering::Release);
        }
        tokio::spawn(async move {
            tokio::time::sleep(REFUSED_RETRY_INTERVAL).await;
            match attempt.origin {
                OrderAttemptOrigin::Accepted(batch) => drop(doubtful.push(batch.id).await),
                OrderAttemptOrigin::Retried(job) => {
                    jobs.end_job(&job.lane, job.id);
                    jobs.wake_in(Duration::ZERO);
                }
            }
        });
    }

    /// Whether the lane is lost; then the order is left to the lane's adopter.
    fn leave_if_lane_lost(&self, attempt: &OrderAttempt) -> bool {
        if !attempt.origin.lane().is_lost() {
            return false;
        }
        if let OrderAttemptOrigin::Accepted(batch) = &attempt.origin {
            batch.has_left_orders.store(true, Ordering::Release);
        }
        tracing::info!(
            order_id = attempt.order_id,
            "order left to the process that took its lane over"
        );
        self.outcome_sink.follow_order(attempt.order_id);
        true
    }

    fn publish_written_outcomes(&self, attempts: &[(OrderAttempt, OrderAttemptOutcome)]) {
        let notices: Vec<OutcomeNotice> = attempts
            .iter()
            .filter_map(|(attempt, outcome)| build_outcome_notice(attempt, outcome))
            .collect();
        for (attempt, outcome) in attempts {
            if let OrderAttemptOrigin::Retried(job) = &attempt.origin {
                self.jobs.end_job(&job.lane, job.id);
            }
            let label = match outcome {
                OrderAttemptOutcome::Finished => "finished",
                OrderAttemptOutcome::Failed { .. } | OrderAttemptOutcome::Deferred { .. } => {
                    "waiting"
                }
                OrderAttemptOutcome::Dead { .. } | OrderAttemptOutcome::GivenUp { .. } => "failed",
            };
            metrics::counter!("orders_ended_total", "outcome" => label).increment(1);
        }
        let failed: Vec<i32> = notices
            .iter()
            .filter(|notice| notice.kind == OutcomeKind::OrderFailed)
            .map(|notice| notice.order_id)
            .collect();
        if let Some(first) = failed.first() {
            tracing::warn!(
                orders = failed.len(),
                first,
                "orders given up: see `orders list --state order_failed`"
            );
        }
        self.outcome_sink.publish_outcomes(&notices);
    }
}

/// Counts the attempted orders out of their accepted batches; returns the batches without orders
/// left.
fn count_out_orders(attempts: &[(OrderAttempt, OrderAttemptOutcome)]) -> Vec<Arc<AcceptedBatch>> {
    let mut emptied_batches = Vec::new();
    for (attempt, _) in attempts {
        if let OrderAttemptOrigin::Accepted(batch) = &attempt.origin
            && batch.count_out_order()
        {
            emptied_batches.push(batch.clone());
        }
    }
    emptied_batches
}

/// Whether the first attempt finished the order: there is no job to settle.
fn is_plain_finish(attempt: &OrderAttempt, outcome: &OrderAttemptOutcome) -> bool {
    matches!(
        (&attempt.origin, outcome),
        (OrderAttemptOrigin::Accepted(_), OrderAttemptOutcome::Finished)
    )
}

/// The batches whose rows can be deleted.
fn removable_batch_ids(emptied_batches: &[Arc<AcceptedBatch>]) -> Vec<Uuid> {
    emptied_batches
        .iter()
        .filter(|batch| !batch.has_left_orders.load(Ordering::Acquire))
        .map(|batch| batch.id)
        .collect()
}

fn build_outcome_notice(
    attempt: &OrderAttempt,
    outcome: &OrderAttemptOutcome,
) -> Option<OutcomeNotice> {
    let kind = match outcome {
        OrderAttemptOutcome::Finished => OutcomeKind::Finished,
        OrderAttemptOutcome::Dead { .. } | OrderAttemptOutcome::GivenUp { .. } => {
            OutcomeKind::OrderFailed
        }
        OrderAttemptOutcome::Failed { .. } => OutcomeKind::AttemptFailed,
        OrderAttemptOutcome::Deferred { .. } => return None,
    };
    Some(OutcomeNotice { order_id: attempt.order_id, data: attempt.data, kind })
}

async fn wait_after_error(error: &Error) {
    tracing::warn!(%error, code = "UNAVAILABLE", "ending orders failed; trying again");
    tokio::time::sleep(Duration::from_millis(200)).await;
}
