//! Coalesced writes (group commit): while one batch is being committed, the next one collects
//! items. No batch waits for a timer unless [`BatchOptions::min_interval`] is set.
//!
//! - Shape: one task per [`Coalescer`], bounded channel, bounded batches.
//! - Promise: fair between callers. Their queues take turns ([`FairTurn`]), and while several have
//!   items a batch holds at most [`BatchOptions::max_shared_items`]. A cancelled caller does
//!   not cancel its item.

use std::future::Future;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::fair::{FairQueue, FairTurn};
use crate::panics;

/// Size and frequency of batches.
#[derive(Debug, Clone, Copy)]
pub struct BatchOptions {
    /// Maximum number of items in a batch.
    pub max_items: usize,
    /// Maximum batch size while several callers' queues wait: large enough to be worth a commit,
    /// small enough to wait for.
    pub max_shared_items: usize,
    /// Minimum interval between the starts of a batch of several items and the next batch, for work
    /// with a high cost per batch. A single item is never delayed.
    pub min_interval: Duration,
}

/// Sends items to one task that writes them in batches. Clones share the task.
pub struct Coalescer<T> {
    queue: mpsc::Sender<(FairTurn, T)>,
    /// Number of items submitted and not yet written.
    pending_items: watch::Sender<usize>,
}

impl<T> Clone for Coalescer<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), pending_items: self.pending_items.clone() }
    }
}

impl<T: Send + 'static> Coalescer<T> {
    /// Starts the task; it ends when all clones are dropped. `flush` gets at most `max_batch` items
    /// in arrival order and must answer each. At most `capacity` items wait. A panic in `flush`
    /// loses the answers of that batch; the task continues.
    pub fn spawn<F, Fut>(name: &'static str, capacity: usize, max_batch: usize, flush: F) -> Self
    where
        F: Fn(Vec<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send,
    {
        let batches = BatchOptions {
            max_items: max_batch,
            max_shared_items: max_batch,
            min_interval: Duration::ZERO,
        };
        Self::spawn_fair(name, capacity, batches, flush)
    }

    /// Like [`Coalescer::spawn`], with explicit batch options.
    pub fn spawn_fair<F, Fut>(
        name: &'static str,
        capacity: usize,
        batches: BatchOptions,
        flush: F,
    ) -> Self
    where
        F: Fn(Vec<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send,
    {
        let (sender, mut incoming) = mpsc::channel(capacity);
        let open = watch::Sender::new(0);
        let pending = open.clone();
        tokio::spawn(async move {
            let mut waiting = FairQueue::default();
            while receive_items(&mut waiting, &mut incoming, capacity).await {
                let max_items = if waiting.has_several_lines() {
                    batches.max_shared_items
                } else {
                    batches.max_items
                };
                let batch = waiting.pop_many(max_items);
                let (items, began) = (batch.len(), Instant::now());
                metrics::histogram!("store_batch_items", "name" => name).record(items as f64);
                if panics::catch_panic(flush(batch)).await.is_err() {
                    tracing::error!(name, code = "LOGIC_ERROR", "a batch write panicked");
                }
                pending.send_modify(|open| *open -= items);
                if items > 1 && began.elapsed() < batches.min_interval {
                    tokio::time::sleep_until(began + batches.min_interval).await;
                }
            }
        });
        Self { queue: sender, pending_items: open }
    }

    /// Submits one item; waits while `capacity` items are waiting. Returns `false` if
    /// the task has ended.
    pub async fn push(&self, item: T) -> bool {
        self.push_for(FairTurn::COMMON, item).await
    }

    /// [`Coalescer::push`] with a caller's turn.
    pub async fn push_for(&self, turn: FairTurn, item: T) -> bool {
        let Ok(permit) = self.queue.reserve().await else { return false };
        self.pending_items.send_modify(|open| *open += 1);
        permit.send((turn, item));
        true
    }

    /// Waits until all items submitted so far are written.
    pub async fn wait_until_drained(&self) {
        // Cannot fail: `self` holds the sender.
        let _ = self.pending_items.subscribe().wait_for(|open| *open == 0).await;
    }

    /// Submits an item with a reply channel and waits for the reply. `None` if the batch was lost.
    pub async fn submit<A>(&self, item: impl FnOnce(oneshot::Sender<A>) -> T) -> Option<A> {
        self.submit_for(FairTurn::COMMON, item).await
    }

    /// [`Coalescer::submit`] with a caller's turn.
    pub async fn submit_for<A>(
        &self,
        turn: FairTurn,
        item: impl FnOnce(oneshot::Sender<A>) -> T,
    ) -> Option<A> {
        let (reply, answer) = oneshot::channel();
        self.push_for(turn, item(reply)).await.then_some(())?;
        answer.await.ok()
    }
}

/// Moves received items to the fair queue until it holds `max_items`; waits for the first if it is
/// empty. Returns `false` when the channel is closed and the queue empty.
async fn receive_items<T>(
    waiting: &mut FairQueue<T>,
    incoming: &mut mpsc::Receiver<(FairTurn, T)>,
    max_items: usize,
) -> bool {
    let mut received = Vec::new();
    if waiting.is_empty() {
        incoming.recv_many(&mut received, max_items).await;
    } else {
        while waiting.len() + received.len() < max_items
            && let Ok(item) = incoming.try_recv()
        {
            received.push(item);
        }
    }
    received.into_iter().for_each(|(turn, item)| waiting.push(turn, item));
    !waiting.is_empty()
}
