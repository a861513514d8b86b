//! The pipeline: three stages, each with a pluggable action, passed by N workers with a fan of F orders each.
//!
//! N x F orders are in flight at most. New orders wait in `intake`, orders from the retry queue in `again`; both are
//! bounded: the first by admission, the second by its claimer.

mod stage;
mod worker;

use std::sync::Arc;

use tokio::task::JoinHandle;

pub use stage::{Action, AskDataManager, PostEvents, Proceed, StageError, Stages};

use crate::orders::{Clock, Ender, Work};

/// The pipeline's size.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Workers.
    pub workers: usize,
    /// Orders each of them has in flight at most.
    pub fan: usize,
}

/// Where orders enter.
#[derive(Debug, Clone)]
pub struct Entrances {
    /// New orders.
    pub intake: async_channel::Sender<Work>,
    /// Orders from the retry queue: they go first, and are few.
    pub again: async_channel::Sender<Work>,
}

/// Where the workers take orders from.
#[derive(Debug, Clone)]
pub struct Exits {
    intake: async_channel::Receiver<Work>,
    again: async_channel::Receiver<Work>,
}

impl Exits {
    /// The next order; those from the retry queue first. `None` when both queues are closed and empty.
    pub async fn next(&self) -> Option<Work> {
        tokio::select! {
            biased;
            Ok(order) = self.again.recv() => Some(order),
            Ok(order) = self.intake.recv() => Some(order),
            else => None,
        }
    }
}

/// The pipeline's two queues, for so many new and so many retried orders.
pub fn queues(new: usize, retried: usize) -> (Entrances, Exits) {
    let (intake, new) = async_channel::bounded(new);
    let (again, retried) = async_channel::bounded(retried);
    (Entrances { intake, again }, Exits { intake: new, again: retried })
}

/// Starts the workers. They end when both entrances are closed and everything has passed.
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
