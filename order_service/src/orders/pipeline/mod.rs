//! The order pipeline: three stages with pluggable actions, run by N workers with a fan-out of F
//! orders.
//!
//! At most N x F orders are in flight. The others wait in a fair queue (`db::pipeline_queue`),
//! bounded by admission for new orders and by the claimer for retried ones.

mod stage;
mod worker;

use std::sync::Arc;

use tokio::task::JoinHandle;

pub use stage::{PassThrough, StageAction, StageActions, StageError};

use crate::orders::db::{DatabaseClock, OrderAttemptWriter, PipelineReceiver};

/// Dimensions of the pipeline.
#[derive(Debug, Clone, Copy)]
pub struct PipelineSize {
    /// Number of worker tasks.
    pub workers: usize,
    /// Maximum number of orders in flight per worker.
    pub fan_out: usize,
}

impl PipelineSize {
    /// Maximum number of orders in flight.
    pub const fn max_in_flight(self) -> usize {
        self.workers.saturating_mul(self.fan_out)
    }
}

/// Starts the workers. They end when the queue is closed and drained.
pub fn start_workers(
    receiver: PipelineReceiver,
    size: PipelineSize,
    stages: StageActions,
    clock: Arc<DatabaseClock>,
    attempt_writer: OrderAttemptWriter,
) -> Vec<JoinHandle<()>> {
    let context = Arc::new(worker::PipelineWorkerContext {
        stages,
        clock,
        attempt_writer,
        fan_out: size.fan_out,
    });
    (0..size.workers)
        .map(|_| tokio::spawn(worker::run_worker(context.clone(), receiver.clone())))
        .collect()
}
