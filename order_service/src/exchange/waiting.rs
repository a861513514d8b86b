//! The orders of this process that wait for a callback.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use chrono::{DateTime, Utc};
use tokio::sync::oneshot;

use crate::orders::Stored;

const SHARDS: usize = 64;

type Shard = Mutex<HashMap<i32, Waiter>>;

struct Waiter {
    since: DateTime<Utc>,
    data: oneshot::Sender<Stored>,
}

/// Who waits for what; sharded, so that threads rarely meet.
pub(super) struct Waiting(Arc<[Shard]>);

impl Default for Waiting {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| Shard::default()).collect())
    }
}

impl Waiting {
    /// Waits for an order's data until dropped.
    pub(super) fn register(&self, order_id: i32, since: DateTime<Utc>) -> Arrival {
        let (data, arrival) = oneshot::channel();
        lock(&self.0, order_id).insert(order_id, Waiter { since, data });
        Arrival { order_id, shards: self.0.clone(), arrival: Some(arrival) }
    }

    pub(super) fn deliver(&self, order_id: i32, stored: Stored) -> bool {
        let waiter = lock(&self.0, order_id).remove(&order_id);
        waiter.is_some_and(|waiter| waiter.data.send(stored).is_ok())
    }

    pub(super) fn since(&self, order_id: i32) -> Option<DateTime<Utc>> {
        lock(&self.0, order_id).get(&order_id).map(|waiter| waiter.since)
    }

    /// Ends the waiting: the data, if it came in the last moment.
    pub(super) fn take(&self, order_id: i32, mut arrival: Arrival) -> Option<Stored> {
        lock(&self.0, order_id).remove(&order_id);
        arrival.arrival.as_mut()?.try_recv().ok()
    }
}

fn lock(shards: &[Shard], order_id: i32) -> MutexGuard<'_, HashMap<i32, Waiter>> {
    let shard = order_id.unsigned_abs() as usize % shards.len();
    shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
}

/// Resolves to an order's data when that has been committed.
pub(super) struct Arrival {
    order_id: i32,
    shards: Arc<[Shard]>,
    /// `None` once another attempt at the same order waits instead of this one: this one never hears.
    arrival: Option<oneshot::Receiver<Stored>>,
}

impl Future for Arrival {
    type Output = Stored;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Stored> {
        let Some(arrival) = self.arrival.as_mut() else { return Poll::Pending };
        match Pin::new(arrival).poll(context) {
            Poll::Ready(Ok(data)) => Poll::Ready(data),
            Poll::Ready(Err(_)) => {
                self.arrival = None;
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        // Only its own entry: it is closed by now, another attempt's is not.
        let shards = self.shards.clone();
        let mut shard = lock(&shards, self.order_id);
        if let Some(arrival) = self.arrival.as_mut() {
            arrival.close();
        }
        if shard.get(&self.order_id).is_some_and(|waiter| waiter.data.is_closed()) {
            shard.remove(&self.order_id);
        }
    }
}
