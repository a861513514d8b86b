//! Coalesced writes: while one batch is being committed the next one gathers, so that concurrent requests share
//! commits without anybody waiting for a timer.
//!
//! Who brings much does not keep others waiting: the lines of those who wait take turns ([`FairTurn`]), and while there are
//! several of them a batch is no larger than [`BatchOptions::max_shared_items`].

use std::future::Future;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::fair::{FairQueue, FairTurn};
use crate::panics;

/// How large batches are, and how often they come.
#[derive(Debug, Clone, Copy)]
pub struct BatchOptions {
    /// Items in one at most.
    pub max_items: usize,
    /// Items in one at most while several lines wait: enough to be worth a commit, few enough to wait for.
    pub max_shared_items: usize,
    /// A batch of several items is not followed by the next one sooner than this after it began. For work whose cost is mostly
    /// that of a batch and not of its items. Who comes alone never waits.
    pub min_interval: Duration,
}

/// Hands items to one task that writes whatever has come in since its previous write. Clones share the task.
pub struct Coalescer<T> {
    queue: mpsc::Sender<(FairTurn, T)>,
    /// Items handed in and not yet written.
    pending_items: watch::Sender<usize>,
}

impl<T> Clone for Coalescer<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), pending_items: self.pending_items.clone() }
    }
}

impl<T: Send + 'static> Coalescer<T> {
    /// Starts the task; it ends when every clone is gone. `flush` gets at most `max_batch` items, in the order they came, and must settle each of
    /// them; at most `capacity` items wait. A panic in `flush` loses that batch's answers, never the task.
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

    /// Like [`Coalescer::spawn`], with batches as they are said to be.
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

    /// Hands one item in; waits while `capacity` items are waiting. `false` if the task is gone.
    pub async fn push(&self, item: T) -> bool {
        self.push_for(FairTurn::COMMON, item).await
    }

    /// Hands one item of somebody's in.
    pub async fn push_for(&self, turn: FairTurn, item: T) -> bool {
        let Ok(permit) = self.queue.reserve().await else { return false };
        self.pending_items.send_modify(|open| *open += 1);
        permit.send((turn, item));
        true
    }

    /// Waits until everything handed in so far has been written.
    pub async fn wait_until_drained(&self) {
        // The sender is this very struct's: it cannot be gone.
        let _ = self.pending_items.subscribe().wait_for(|open| *open == 0).await;
    }

    /// Hands in an item that carries a reply channel and waits for the reply. `None` if the batch was lost.
    pub async fn submit<A>(&self, item: impl FnOnce(oneshot::Sender<A>) -> T) -> Option<A> {
        self.submit_for(FairTurn::COMMON, item).await
    }

    /// The same for an item of somebody's.
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

/// Moves what has come in to those who wait, `max_items` of them in all; waits for something if nobody does. False when nothing
/// will come any more.
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
