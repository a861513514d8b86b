//! The retry queue's way back into the pipeline: claims due jobs, loads their orders, hands them to the workers.
//!
//! While the data manager cannot be reached nothing is claimed but one probe at a time: orders wait in the queue, and
//! the queue is left alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use queue::{Job, JobQueue};
use sqlx::PgPool;
use store::{FairTurn, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::exchange::CircuitBreaker;
use crate::orders::{
    self, Order, OrderAdmission, OrderAttempt, OrderAttemptOrigin, OrderAttemptOutcome,
    OrderAttemptWriter, OrderState, PipelineSender,
};

/// What the claimer works with.
pub struct RetryClaimer {
    /// The database.
    pub pool: PgPool,
    /// The retry queue.
    pub jobs: JobQueue,
    /// Held open: nothing is claimed but probes.
    pub breaker: CircuitBreaker,
    /// The pipeline's entrance.
    pub pipeline_sender: PipelineSender,
    /// For orders that turn out to have ended.
    pub attempt_writer: OrderAttemptWriter,
    /// Orders from the queue in the pipeline at a time.
    pub max_in_flight: usize,
}

impl RetryClaimer {
    /// Claims until `stop`.
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
                    // The probe's outcome, or the next pause, decides.
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

    /// Another claim is worth its round trip when half the room is free.
    async fn wait_for_half_free(&self, permits: &Semaphore) {
        let half = u32::try_from(self.max_in_flight.div_ceil(2)).unwrap_or(u32::MAX);
        drop(permits.acquire_many(half).await);
    }

    async fn claim_jobs(&self, permits: &Arc<Semaphore>, limit: usize) -> Result<usize> {
        // Who has just come does not wait for all who waited for the data manager.
        let jobs = self.jobs.claim_latest_first(limit).await?;
        let ids: Vec<i32> = jobs.iter().filter_map(job_order_id).collect();
        if ids.is_empty() {
            return Ok(0);
        }
        let result = orders::load_orders(&self.pool, ids).await;
        let loaded = result
            .inspect_err(|_| jobs.iter().for_each(|job| self.jobs.end_job(&job.lane, job.id)))?;
        let mut loaded: HashMap<i32, Order> =
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
            // Cannot be: jobs are written with their orders. Left in the queue, marked, for a person to see.
            tracing::error!(job = job.id, key = ?job.key, code = "CONSISTENCY_ERROR", "a retry job without its order");
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
                        OrderAttemptOutcome::Failed { reason: "failed before".to_owned() },
                    )
                    .await
            }
            _ => self.pipeline_sender.send(attempt),
        }
    }
}

fn job_order_id(job: &Job) -> Option<i32> {
    job.key.as_deref()?.parse().ok()
}

/// The order as the pipeline takes it up: from the state it had reached.
fn retried_attempt(order: Order, job: Job, permit: OwnedSemaphorePermit) -> OrderAttempt {
    let reached_at =
        |state| order.history.iter().find(|change| change.state == state).map(|change| change.at);
    let (started_at, external_at) = (
        reached_at(OrderState::ProcessStarted),
        reached_at(OrderState::FinishedExternalInteraction),
    );
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
        admission: Some(Arc::new(OrderAdmission::for_request(permit))),
    }
}
