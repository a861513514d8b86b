//! The pipeline: three stages, each with a pluggable action, passed by N workers with a fan of F orders each.
//!
//! N x F orders are in flight at most. The others wait in one line, in which requests take turns (`orders::line`); it is bounded by
//! admission for new orders and by the claimer for those from the retry queue.

mod stage;
mod worker;

use std::sync::Arc;

use tokio::task::JoinHandle;

pub use stage::{Action, AskDataManager, PostEvents, Proceed, StageError, Stages};

use crate::orders::{Clock, Ender, Exits};

/// The pipeline's size.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Workers.
    pub workers: usize,
    /// Orders each of them has in flight at most.
    pub fan: usize,
}

impl Size {
    /// Orders in flight at most.
    pub const fn places(self) -> usize {
        self.workers.saturating_mul(self.fan)
    }
}

/// Starts the workers. They end when the line is closed and everything has passed.
pub fn start(
    exits: Exits,
    size: Size,
    stages: Stages,
    clock: Arc<Clock>,
    ender: Ender,
) -> Vec<JoinHandle<()>> {
    let crew = Arc::new(worker::Crew { stages, clock, ender, fan: size.fan });
    (0..size.workers).map(|_| tokio::spawn(worker::work(crew.clone(), exits.clone()))).collect()
}
