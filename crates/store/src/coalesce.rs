//! Coalesced writes: while one batch is being committed the next one gathers, so that concurrent requests share
//! commits without anybody waiting for a timer.
//!
//! Who brings much does not keep others waiting: the lines of those who wait take turns ([`Turn`]), and while there are
//! several of them a batch is no larger than [`Batches::shared`].

use std::future::Future;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::fair::{Fair, Turn};
use crate::panics;

/// How large batches are, and how often they come.
#[derive(Debug, Clone, Copy)]
pub struct Batches {
    /// Items in one at most.
    pub most: usize,
    /// Items in one at most while several lines wait: enough to be worth a commit, few enough to wait for.
    pub shared: usize,
    /// A batch of several items is not followed by the next one sooner than this after it began. For work whose cost is mostly
    /// that of a batch and not of its items. Who comes alone never waits.
    pub pace: Duration,
}

/// Hands items to one task that writes whatever has come in since its previous write. Clones share the task.
pub struct Coalescer<T> {
    queue: mpsc::Sender<(Turn, T)>,
    /// Items handed in and not yet written.
    open: watch::Sender<usize>,
}

impl<T> Clone for Coalescer<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), open: self.open.clone() }
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
        let batches = Batches { most: max_batch, shared: max_batch, pace: Duration::ZERO };
        Self::spawn_fair(name, capacity, batches, flush)
    }

    /// Like [`Coalescer::spawn`], with batches as they are said to be.
    pub fn spawn_fair<F, Fut>(name: &'static str, capacity: usize, batches: Batches, flush: F) -> Self
    where
        F: Fn(Vec<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send,
    {
        let (queue, mut incoming) = mpsc::channel(capacity);
        let open = watch::Sender::new(0);
        let settled = open.clone();
        tokio::spawn(async move {
            let mut waiting = Fair::default();
            while take_in(&mut waiting, &mut incoming, capacity).await {
                let most = if waiting.is_shared() { batches.shared } else { batches.most };
                let batch = waiting.take(most);
                let (items, began) = (batch.len(), Instant::now());
                metrics::histogram!("store_batch_items", "name" => name).record(items as f64);
                if panics::caught(flush(batch)).await.is_err() {
                    tracing::error!(name, code = "LOGIC_ERROR", "a batch write panicked");
                }
                settled.send_modify(|open| *open -= items);
                if items > 1 && began.elapsed() < batches.pace {
                    tokio::time::sleep_until(began + batches.pace).await;
                }
            }
        });
        Self { queue, open }
    }

    /// Hands one item in; waits while `capacity` items are waiting. `false` if the task is gone.
    pub async fn push(&self, item: T) -> bool {
        self.push_for(Turn::COMMON, item).await
    }

    /// Hands one item of somebody's in.
    pub async fn push_for(&self, turn: Turn, item: T) -> bool {
        let Ok(place) = self.queue.reserve().await else { return false };
        self.open.send_modify(|open| *open += 1);
        place.send((turn, item));
        true
    }

    /// Waits until everything handed in so far has been written.
    pub async fn drained(&self) {
        // The sender is this very struct's: it cannot be gone.
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }

    /// Hands in an item that carries a reply channel and waits for the reply. `None` if the batch was lost.
    pub async fn ask<A>(&self, item: impl FnOnce(oneshot::Sender<A>) -> T) -> Option<A> {
        self.ask_for(Turn::COMMON, item).await
    }

    /// The same for an item of somebody's.
    pub async fn ask_for<A>(&self, turn: Turn, item: impl FnOnce(oneshot::Sender<A>) -> T) -> Option<A> {
        let (reply, answer) = oneshot::channel();
        self.push_for(turn, item(reply)).await.then_some(())?;
        answer.await.ok()
    }
}

/// Moves what has come in to those who wait, `most` of them in all; waits for something if nobody does. False when nothing
/// will come any more.
async fn take_in<T>(waiting: &mut Fair<T>, incoming: &mut mpsc::Receiver<(Turn, T)>, most: usize) -> bool {
    let mut fresh = Vec::new();
    if waiting.is_empty() {
        incoming.recv_many(&mut fresh, most).await;
    } else {
        while waiting.len() + fresh.len() < most
            && let Ok(item) = incoming.try_recv()
        {
            fresh.push(item);
        }
    }
    fresh.into_iter().for_each(|(turn, item)| waiting.push(turn, item));
    !waiting.is_empty()
}
