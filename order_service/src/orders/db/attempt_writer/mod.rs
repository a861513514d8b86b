//! Attempt writer: group commit of attempt outcomes.
//!
//! - Shape: first attempts that finished take one statement. All other outcomes, and those of
//!   retried orders, take one transaction together with their jobs.
//! - Lock order: lanes, orders, jobs.
//! - Promise: the lane's fencing token guards every outcome but finishing, which is idempotent. An
//!   outcome is written until the database takes it; only what it refuses even as a retry stays in
//!   its batch or job.

mod batch;
mod jobs;
mod outcomes;
mod rows;

use std::sync::Arc;
use std::time::Duration;

use queue::{Backoff, JobQueue};
use sqlx::PgPool;
use store::{Coalescer, open_single_connection_pool};
use uuid::Uuid;

use super::{EndedAttempt, OrderAttempt, OrderAttemptOutcome, OutcomeNotice, adopt, paced_batches};
use crate::orders::OrderId;
use batch::OrderAttemptBatchWriter;

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
    fn follow_order(&self, order_id: OrderId);
}

/// Handle of the writer; clones share it.
#[derive(Clone)]
pub struct OrderAttemptWriter {
    coalescer: Coalescer<EndedAttempt>,
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
        self.coalescer.push_for(attempt.turn, EndedAttempt { attempt, outcome }).await;
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
