//! The retry queue's way back into the pipeline: claims due jobs, loads their orders, hands them to the workers.
//!
//! While the data manager cannot be reached nothing is claimed but one probe at a time: orders wait in the queue, and
//! the queue is left alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use queue::{Job, Jobs};
use sqlx::PgPool;
use store::{Result, Turn};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::exchange::Breaker;
use crate::orders::{self, Admission, End, Ender, Entrance, Order, Origin, State, Work};

/// What the claimer works with.
pub struct Claimer {
    /// The database.
    pub pool: PgPool,
    /// The retry queue.
    pub jobs: Jobs,
    /// Held open: nothing is claimed but probes.
    pub breaker: Breaker,
    /// The pipeline's entrance.
    pub line: Entrance,
    /// For orders that turn out to have ended.
    pub ender: Ender,
    /// Orders from the queue in the pipeline at a time.
    pub room: usize,
}

impl Claimer {
    /// Claims until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let free = Arc::new(Semaphore::new(self.room));
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.breaker.may_try() => {}
            }
            let room = if self.breaker.is_open() { 1 } else { free.available_permits() };
            let claimed = match self.claim(&free, room).await {
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
                } else if claimed == room && room > 0 {
                    self.half_free(&free).await;
                } else {
                    self.half_free(&free).await;
                    self.jobs.may_be_due().await;
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = wait => {}
            }
        }
    }

    /// Another claim is worth its round trip when half the room is free.
    async fn half_free(&self, free: &Semaphore) {
        let half = u32::try_from(self.room.div_ceil(2)).unwrap_or(u32::MAX);
        drop(free.acquire_many(half).await);
    }

    async fn claim(&self, free: &Arc<Semaphore>, room: usize) -> Result<usize> {
        // Who has just come does not wait for all who waited for the data manager.
        let jobs = self.jobs.claim_latest_first(room).await?;
        let ids: Vec<i32> = jobs.iter().filter_map(order_id).collect();
        if ids.is_empty() {
            return Ok(0);
        }
        let loaded = orders::load(&self.pool, ids).await;
        let loaded = loaded.inspect_err(|_| jobs.iter().for_each(|job| self.jobs.end(&job.lane, job.id)))?;
        let mut loaded: HashMap<i32, Order> =
            loaded.into_iter().map(|order| (order.order_id, order)).collect();
        let claimed = jobs.len();
        for job in jobs {
            let Ok(permit) = free.clone().acquire_owned().await else { break };
            let order = order_id(&job).and_then(|id| loaded.remove(&id));
            self.hand_over(job, order, permit).await;
        }
        Ok(claimed)
    }

    async fn hand_over(&self, job: Job, order: Option<Order>, permit: OwnedSemaphorePermit) {
        let Some(order) = order else {
            // Cannot be: jobs are written with their orders. Left in the queue, marked, for a person to see.
            tracing::error!(job = job.id, key = ?job.key, code = "CONSISTENCY_ERROR", "a retry job without its order");
            return;
        };
        let work = work(order, job, permit);
        match work.state {
            State::ProcessFinished => self.ender.end(work, End::Finished).await,
            State::Failed => self.ender.end(work, End::Failed { reason: "failed before".to_owned() }).await,
            _ => self.line.enter(work),
        }
    }
}

fn order_id(job: &Job) -> Option<i32> {
    job.key.as_deref()?.parse().ok()
}

/// The order as the pipeline takes it up: from the state it had reached.
fn work(order: Order, job: Job, permit: OwnedSemaphorePermit) -> Work {
    let reached = |state| order.history.iter().find(|change| change.state == state).map(|change| change.at);
    let (started_at, external_at) =
        (reached(State::ProcessStarted), reached(State::FinishedExternalInteraction));
    Work {
        order_id: order.order_id,
        product_id: order.product_id,
        state: order.state,
        data: order.data,
        basis: order.basis,
        attempts: order.attempts,
        started_at,
        external_at,
        origin: Origin::Retried(Box::new(job)),
        turn: Turn::COMMON,
        admission: Some(Arc::new(Admission::of(permit))),
    }
}
