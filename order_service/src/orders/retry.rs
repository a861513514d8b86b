//! Retry claimer: claims due jobs from the retry queue, loads their orders and sends them into the
//! pipeline.
//!
//! - Shape: at most `max_in_flight` retried orders; of a backlog three quarters latest first, a
//!   quarter oldest first.
//! - Cost: two round trips per claim; the next claim waits until half of the permits are free.
//! - Outage: while the breaker is open, one probe at a time is claimed; the other orders wait in
//!   the queue, unclaimed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use queue::{Job, JobQueue};
use sqlx::PgPool;
use store::{FairTurn, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::orders::OrderId;
use crate::orders::db::{
    self, Order, OrderAdmission, OrderAttempt, OrderAttemptOrigin, OrderAttemptOutcome,
    OrderAttemptWriter, OrderState, PipelineSender,
};
use crate::orders::exchange::CircuitBreaker;

/// The claimer and its dependencies.
pub struct RetryClaimer {
    /// Connection pool of the control database.
    pub pool: PgPool,
    /// Retry queue of orders.
    pub jobs: JobQueue,
    /// Breaker of the data manager's connection; while it is open only probes are claimed.
    pub breaker: CircuitBreaker,
    /// Sender of the pipeline's queue.
    pub pipeline_sender: PipelineSender,
    /// Settles the jobs of orders that have already ended.
    pub attempt_writer: OrderAttemptWriter,
    /// Maximum number of retried orders in the pipeline.
    pub max_in_flight: usize,
}

impl RetryClaimer {
    /// Claims jobs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let permits = Arc::new(Semaphore::new(self.max_in_flight));
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.breaker.wait_until_callable() => {}
            }
            let limit = if self.breaker.is_open() { 1 } else { permits.available_permits() };
            let claimed = match self.claim_jobs(&permits, limit).await {
                Ok(claimed) => claimed,
                Err(error) => {
                    tracing::warn!(%error, code = "UNAVAILABLE", "claiming orders to retry failed");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    continue;
                }
            };
            let wait = async {
                if self.breaker.is_open() && claimed > 0 {
                    // Wait for the probe's outcome or the next probe time.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                } else if claimed == limit && limit > 0 {
                    self.wait_for_half_free(&permits).await;
                } else {
                    self.wait_for_half_free(&permits).await;
                    self.jobs.wait_until_due().await;
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = wait => {}
            }
        }
    }

    /// Batches claims: waits until half of the permits are free.
    async fn wait_for_half_free(&self, permits: &Semaphore) {
        let half = u32::try_from(self.max_in_flight.div_ceil(2)).unwrap_or(u32::MAX);
        drop(permits.acquire_many(half).await);
    }

    async fn claim_jobs(&self, permits: &Arc<Semaphore>, limit: usize) -> Result<usize> {
        // Latest first: a new order does not wait behind the backlog of an outage.
        let jobs = self.jobs.claim_latest_first(limit).await?;
        let ids: Vec<OrderId> = jobs.iter().filter_map(job_order_id).collect();
        if ids.is_empty() {
            return Ok(0);
        }
        let result = db::load_orders(&self.pool, ids).await;
        let loaded = result
            .inspect_err(|_| jobs.iter().for_each(|job| self.jobs.end_job(&job.lane, job.id)))?;
        let mut loaded: HashMap<OrderId, Order> =
            loaded.into_iter().map(|order| (order.order_id, order)).collect();
        let claimed = jobs.len();
        for job in jobs {
            let Ok(permit) = permits.clone().acquire_owned().await else { break };
            let order = job_order_id(&job).and_then(|id| loaded.remove(&id));
            self.dispatch_job(job, order, permit).await;
        }
        Ok(claimed)
    }

    async fn dispatch_job(&self, job: Job, order: Option<Order>, permit: OwnedSemaphorePermit) {
        let Some(order) = order else {
            // Unreachable: a job is written together with its order. Left in the queue, marked as
            // claimed, for an operator.
            tracing::error!(job = job.id.get(), key = ?job.key, code = "CONSISTENCY_ERROR", "a retry job without its order");
            return;
        };
        let attempt = retried_attempt(order, job, permit);
        match attempt.state {
            OrderState::ProcessFinished => {
                self.attempt_writer.write(attempt, OrderAttemptOutcome::Finished).await
            }
            OrderState::Failed => {
                self.attempt_writer
                    .write(
                        attempt,
                        OrderAttemptOutcome::Dead { reason: "failed before".to_owned() },
                    )
                    .await
            }
            _ => self.pipeline_sender.send(attempt),
        }
    }
}

fn job_order_id(job: &Job) -> Option<OrderId> {
    job.key.as_deref()?.parse::<i32>().ok().map(OrderId::from)
}

/// Builds the attempt, starting at the stored state.
fn retried_attempt(order: Order, job: Job, permit: OwnedSemaphorePermit) -> OrderAttempt {
    let (mut started_at, mut external_at) = (None, None);
    for change in &order.history {
        match change.state {
            OrderState::ProcessStarted => started_at = started_at.or(Some(change.at)),
            OrderState::FinishedExternalInteraction => {
                external_at = external_at.or(Some(change.at))
            }
            _ => {}
        }
    }
    OrderAttempt {
        order_id: order.order_id,
        product_id: order.product_id,
        state: order.state,
        data: order.data,
        posting_context: order.posting_context,
        attempts: order.attempts,
        started_at,
        external_at,
        origin: OrderAttemptOrigin::Retried(Box::new(job)),
        turn: FairTurn::COMMON,
        admission: Some(Arc::new(OrderAdmission::with_turn(permit, FairTurn::COMMON))),
    }
}
