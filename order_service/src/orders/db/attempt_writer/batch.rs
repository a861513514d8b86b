//! Writing of a batch: which statement or transaction takes which outcomes, and what happens to
//! those that the database refuses.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use queue::JobQueue;
use sqlx::PgPool;
use store::{Coalescer, Error, to_storable_text};
use uuid::Uuid;

use super::outcomes::{decide_outcome, publish_written_outcomes};
use super::{GiveUpPolicy, OutcomeSink, rows};
use crate::orders::db::{
    AcceptedBatch, EndedAttempt, OrderAttempt, OrderAttemptOrigin, OrderAttemptOutcome, OrderState,
};

/// Delay before an order is requeued whose outcome the database refused in any form.
const REFUSED_RETRY_INTERVAL: Duration = Duration::from_secs(15);

/// Writes the batches of the coalescer, one at a time.
pub(super) struct OrderAttemptBatchWriter {
    pub(super) pool: PgPool,
    pub(super) jobs: JobQueue,
    pub(super) give_up: GiveUpPolicy,
    pub(super) outcome_sink: Arc<dyn OutcomeSink>,
    pub(super) doubtful_batches: Coalescer<Uuid>,
}

impl OrderAttemptBatchWriter {
    /// Writes a batch; returns when the database has it, or has left it to recovery.
    pub(super) async fn write_batch(&self, batch: Vec<EndedAttempt>) {
        let emptied_batches = count_out_orders(&batch);
        let decided = batch.into_iter().map(|ended| decide_outcome(ended, &self.give_up));
        let (plain_finishes, mut others): (Vec<_>, Vec<_>) = decided.partition(is_plain_finish);
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

    /// Writes finished first attempts, retrying transient errors; false if the
    /// database refuses the batch.
    async fn write_finished_attempts(
        &self,
        attempts: &[EndedAttempt],
        removable_ids: &[Uuid],
    ) -> bool {
        store::fail_point("finishing");
        loop {
            match rows::finish_orders(&self.pool, attempts, removable_ids).await {
                Ok(()) => {
                    store::fail_point("finished");
                    publish_written_outcomes(attempts, &self.jobs, &*self.outcome_sink);
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
        attempts: Vec<EndedAttempt>,
        emptied_batches: &[Arc<AcceptedBatch>],
    ) {
        let mut parts = vec![attempts];
        while let Some(mut part) = parts.pop() {
            part.retain(|ended| !self.leave_if_lane_lost(&ended.attempt));
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
                    publish_written_outcomes(&part, &self.jobs, &*self.outcome_sink);
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
                Err(error) => {
                    let refused = part.pop();
                    let waiting =
                        refused.and_then(|refused| self.handle_refused_attempt(refused, &error));
                    parts.extend(waiting.map(|waiting| vec![waiting]));
                }
            }
        }
    }

    /// Handles an outcome that the database refuses for one order: the order is written as waiting
    /// instead, and retried as a job. If that is refused too, the order stays in its batch or job
    /// and is requeued from there.
    fn handle_refused_attempt(&self, refused: EndedAttempt, error: &Error) -> Option<EndedAttempt> {
        let EndedAttempt { mut attempt, outcome } = refused;
        tracing::error!(order_id = attempt.order_id.get(), %error, code = "CONSISTENCY_ERROR", "the end of an order is refused");
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
            let outcome = OrderAttemptOutcome::Failed { reason };
            return Some(EndedAttempt { attempt, outcome });
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
            order_id = attempt.order_id.get(),
            "order left to the process that took its lane over"
        );
        self.outcome_sink.follow_order(attempt.order_id);
        true
    }
}

/// Counts the attempted orders out of their accepted batches; returns the batches without orders
/// left.
fn count_out_orders(attempts: &[EndedAttempt]) -> Vec<Arc<AcceptedBatch>> {
    let mut emptied_batches = Vec::new();
    for EndedAttempt { attempt, .. } in attempts {
        if let OrderAttemptOrigin::Accepted(batch) = &attempt.origin
            && batch.count_out_order()
        {
            emptied_batches.push(batch.clone());
        }
    }
    emptied_batches
}

/// Whether the first attempt finished the order: there is no job to settle.
fn is_plain_finish(ended: &EndedAttempt) -> bool {
    matches!(
        (&ended.attempt.origin, &ended.outcome),
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

async fn wait_after_error(error: &Error) {
    tracing::warn!(%error, code = "UNAVAILABLE", "ending orders failed; trying again");
    tokio::time::sleep(Duration::from_millis(200)).await;
}
