//! Coalesced writes: while one batch is being committed the next one gathers, so that concurrent requests share
//! commits without anybody waiting for a timer.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// Hands items to one task that writes whatever has come in since its previous write. Clones share the task.
pub struct Coalescer<T> {
    queue: mpsc::Sender<T>,
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
        Self::spawn_paced(name, capacity, max_batch, Duration::ZERO, flush)
    }

    /// Like [`Coalescer::spawn`], for work whose cost is mostly that of a batch and not of its items: a batch of several
    /// items is not followed by the next one sooner than `pace` after it began. Who comes alone never waits.
    pub fn spawn_paced<F, Fut>(
        name: &'static str,
        capacity: usize,
        max_batch: usize,
        pace: Duration,
        flush: F,
    ) -> Self
    where
        F: Fn(Vec<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send,
    {
        let (queue, mut waiting) = mpsc::channel(capacity);
        let open = watch::Sender::new(0);
        let settled = open.clone();
        tokio::spawn(async move {
            loop {
                let mut batch = Vec::new();
                if waiting.recv_many(&mut batch, max_batch).await == 0 {
                    return;
                }
                let (items, began) = (batch.len(), Instant::now());
                metrics::histogram!("store_batch_items", "name" => name).record(items as f64);
                if AssertUnwindSafe(flush(batch)).catch_unwind().await.is_err() {
                    tracing::error!(name, code = "LOGIC_ERROR", "a batch write panicked");
                }
                settled.send_modify(|open| *open -= items);
                if items > 1 && began.elapsed() < pace {
                    tokio::time::sleep_until(began + pace).await;
                }
            }
        });
        Self { queue, open }
    }

    /// Hands one item in; waits while `capacity` items are waiting. `false` if the task is gone.
    pub async fn push(&self, item: T) -> bool {
        let Ok(place) = self.queue.reserve().await else { return false };
        self.open.send_modify(|open| *open += 1);
        place.send(item);
        true
    }

    /// Waits until everything handed in so far has been written.
    pub async fn drained(&self) {
        // The sender is this very struct's: it cannot be gone.
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }

    /// Hands in an item that carries a reply channel and waits for the reply. `None` if the batch was lost.
    pub async fn ask<A>(&self, item: impl FnOnce(oneshot::Sender<A>) -> T) -> Option<A> {
        let (reply, answer) = oneshot::channel();
        self.push(item(reply)).await.then_some(())?;
        answer.await.ok()
    }
}
