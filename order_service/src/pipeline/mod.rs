//! The pipeline: three stages, each with a pluggable action, passed by N workers with a fan of F orders each.
//!
//! N x F orders are in flight at most. The others wait in one line, in which requests take turns (`orders::line`); it is bounded by
//! admission for new orders and by the claimer for those from the retry queue.

mod stage;
mod worker;

use std::sync::Arc;

use tokio::task::JoinHandle;

pub use stage::{AskDataManager, PassThrough, PostEvents, StageAction, StageActions, StageError};

use crate::orders::{DatabaseClock, OrderAttemptWriter, PipelineReceiver};

/// The pipeline's size.
#[derive(Debug, Clone, Copy)]
pub struct PipelineSize {
    /// Workers.
    pub workers: usize,
    /// Orders each of them has in flight at most.
    pub fan_out: usize,
}

impl PipelineSize {
    /// Orders in flight at most.
    pub const fn max_in_flight(self) -> usize {
        self.workers.saturating_mul(self.fan_out)
    }
}

/// Starts the workers. They end when the line is closed and everything has passed.
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
