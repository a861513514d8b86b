//! Coalesced writes (group commit): while one batch is being committed, the next one collects
//! items. No batch waits for a timer unless [`BatchOptions::min_interval`] is set.
//!
//! - Shape: one task per [`Coalescer`], bounded channel, bounded batches.
//! - Promise: fair between callers. Their queues take turns ([`FairTurn`]), and while several have
//!   items a batch holds at most [`BatchOptions::max_shared_items`]. A cancelled caller does
//!   not cancel its item.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::fair::{FairQueue, FairTurn};
use crate::panics;

/// A batch of at least this many items has express batches beside it; a smaller one is soon over.
const MIN_EXPRESS_BESIDE_ITEMS: usize = 64;
/// Maximum number of items of an express batch.
const MAX_EXPRESS_ITEMS: usize = 64;

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
    /// Separate, so that only items of small callers wake the task while it waits for a large batch.
    small_queue: mpsc::Sender<(FairTurn, T)>,
    /// Number of items submitted and not yet written.
    pending_items: watch::Sender<usize>,
}

impl<T> Clone for Coalescer<T> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            small_queue: self.small_queue.clone(),
            pending_items: self.pending_items.clone(),
        }
    }
}

impl<T: Send + 'static> Coalescer<T> {
    /// Starts the task; it ends when all clones are dropped. `flush` gets at most `max_batch` items
    /// in arrival order and must answer each. At most `capacity` items wait. A panic in `flush`
    /// loses the answers of that batch; the task continues.
    pub fn spawn<F, Fut>(name: &'static str, capacity: usize, max_batch: usize, flush: F) -> Self
    where
        F: Fn(Vec<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
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
        Fut: Future<Output = ()> + Send + 'static,
    {
        Self::spawn_loop(name, capacity, batches, flush, None::<F>)
    }

    /// Like [`Coalescer::spawn_fair`]. While a large batch is being flushed, small callers
    /// ([`FairTurn::next_of`]) do not wait for it: `flush_express` gets theirs, at most one batch at a time, on another
    /// connection. Items of different callers may therefore be written in another order than they
    /// came.
    pub fn spawn_with_express<F, Fut, E, ExpressFut>(
        name: &'static str,
        capacity: usize,
        batches: BatchOptions,
        flush: F,
        flush_express: E,
    ) -> Self
    where
        F: Fn(Vec<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
        E: Fn(Vec<T>) -> ExpressFut + Send + Sync + 'static,
        ExpressFut: Future<Output = ()> + Send + 'static,
    {
        Self::spawn_loop(name, capacity, batches, flush, Some(flush_express))
    }

    fn spawn_loop<F, Fut, E, ExpressFut>(
        name: &'static str,
        capacity: usize,
        batches: BatchOptions,
        flush: F,
        flush_express: Option<E>,
    ) -> Self
    where
        F: Fn(Vec<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
        E: Fn(Vec<T>) -> ExpressFut + Send + Sync + 'static,
        ExpressFut: Future<Output = ()> + Send + 'static,
    {
        let (sender, incoming) = mpsc::channel(capacity);
        let (small_sender, small_incoming) = mpsc::channel(capacity);
        let pending_items = watch::Sender::new(0);
        let items = WaitingItems {
            queue: FairQueue::default(),
            incoming,
            small_incoming,
            max_items: capacity,
            name,
        };
        let batch_loop = BatchLoop {
            items,
            batches,
            pending_items: pending_items.clone(),
            express: Arc::new(Semaphore::new(1)),
        };
        tokio::spawn(batch_loop.run(flush, flush_express));
        Self { queue: sender, small_queue: small_sender, pending_items }
    }

    /// Submits one item; waits while `capacity` items are waiting. Returns `false` if
    /// the task has ended.
    pub async fn push(&self, item: T) -> bool {
        self.push_for(FairTurn::COMMON, item).await
    }

    /// [`Coalescer::push`] with a caller's turn.
    pub async fn push_for(&self, turn: FairTurn, item: T) -> bool {
        let queue = if turn.is_small() { &self.small_queue } else { &self.queue };
        let Ok(permit) = queue.reserve().await else { return false };
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

/// The task of a [`Coalescer`].
struct BatchLoop<T> {
    items: WaitingItems<T>,
    batches: BatchOptions,
    pending_items: watch::Sender<usize>,
    /// Held by the express batch that is being flushed.
    express: Arc<Semaphore>,
}

impl<T: Send + 'static> BatchLoop<T> {
    async fn run<F, Fut, E, ExpressFut>(mut self, flush: F, flush_express: Option<E>)
    where
        F: Fn(Vec<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
        E: Fn(Vec<T>) -> ExpressFut + Send + Sync + 'static,
        ExpressFut: Future<Output = ()> + Send + 'static,
    {
        while self.items.receive().await {
            let batch = self.items.pop_batch(self.batches);
            let (item_count, began) = (batch.len(), Instant::now());
            let flushing = flush_contained(self.items.name, flush(batch));
            match &flush_express {
                Some(flush_express) if item_count >= MIN_EXPRESS_BESIDE_ITEMS => {
                    self.flush_beside(flushing, flush_express).await;
                }
                _ => flushing.await,
            }
            self.pending_items.send_modify(|open| *open -= item_count);
            if item_count > 1 && began.elapsed() < self.batches.min_interval {
                tokio::time::sleep_until(began + self.batches.min_interval).await;
            }
        }
    }

    /// Waits for a large batch; meanwhile starts express batches of the small callers.
    async fn flush_beside<E, ExpressFut>(
        &mut self,
        flushing: impl Future<Output = ()>,
        flush_express: &E,
    ) where
        E: Fn(Vec<T>) -> ExpressFut + Send + Sync + 'static,
        ExpressFut: Future<Output = ()> + Send + 'static,
    {
        let mut flushing = std::pin::pin!(flushing);
        let express = self.express.clone();
        loop {
            let (permit, batch) = tokio::select! {
                biased;
                () = &mut flushing => return,
                batch = self.items.receive_express(&express) => batch,
            };
            let (name, item_count) = (self.items.name, batch.len());
            metrics::histogram!("store_batch_items", "name" => name).record(item_count as f64);
            let flushing = flush_contained(name, flush_express(batch));
            let pending_items = self.pending_items.clone();
            tokio::spawn(async move {
                flushing.await;
                drop(permit);
                pending_items.send_modify(|open| *open -= item_count);
            });
        }
    }
}

/// Runs a flush. A panic loses the answers of its batch and nothing else.
async fn flush_contained(name: &'static str, flushing: impl Future<Output = ()>) {
    if panics::catch_panic(flushing).await.is_err() {
        tracing::error!(name, code = "LOGIC_ERROR", "a batch write panicked");
    }
}

/// The items of a [`Coalescer`] that are not in a batch yet.
struct WaitingItems<T> {
    queue: FairQueue<T>,
    incoming: mpsc::Receiver<(FairTurn, T)>,
    small_incoming: mpsc::Receiver<(FairTurn, T)>,
    /// Maximum length of `queue`.
    max_items: usize,
    name: &'static str,
}

impl<T> WaitingItems<T> {
    /// Moves received items to the fair queue until it is full; waits for the first if it is empty.
    /// Returns `false` when the channels are closed and the queue empty.
    async fn receive(&mut self) -> bool {
        let mut received = Vec::new();
        if self.queue.is_empty() {
            let (many, small) = (&mut self.incoming, &mut self.small_incoming);
            // Both channels close together: a closed one has nothing to wait for.
            let mut received_small = Vec::new();
            tokio::select! {
                _ = many.recv_many(&mut received, self.max_items) => {}
                _ = small.recv_many(&mut received_small, self.max_items) => {}
            }
            received.append(&mut received_small);
        }
        while self.queue.len() + received.len() < self.max_items {
            let next = self.small_incoming.try_recv().or_else(|_| self.incoming.try_recv());
            let Ok(item) = next else { break };
            received.push(item);
        }
        received.into_iter().for_each(|(turn, item)| self.queue.push(turn, item));
        !self.queue.is_empty()
    }

    fn pop_batch(&mut self, batches: BatchOptions) -> Vec<T> {
        let max_items = if self.queue.has_several_lines() {
            batches.max_shared_items
        } else {
            batches.max_items
        };
        let batch = self.queue.pop_many(max_items);
        metrics::histogram!("store_batch_items", "name" => self.name).record(batch.len() as f64);
        batch
    }

    /// Waits until no express batch is being flushed and a small caller waits. Cancel safe. Pending
    /// forever once all senders are dropped.
    async fn receive_express(
        &mut self,
        express: &Arc<Semaphore>,
    ) -> (OwnedSemaphorePermit, Vec<T>) {
        // Never closed.
        let Ok(permit) = express.clone().acquire_owned().await else {
            return std::future::pending().await;
        };
        loop {
            let batch = self.queue.pop_small_callers(MAX_EXPRESS_ITEMS);
            if !batch.is_empty() {
                return (permit, batch);
            }
            let mut received = Vec::new();
            if self.small_incoming.recv_many(&mut received, MAX_EXPRESS_ITEMS).await == 0 {
                return std::future::pending().await;
            }
            received.into_iter().for_each(|(turn, item)| self.queue.push(turn, item));
        }
    }
}
