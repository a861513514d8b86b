//! The orders of this process that wait for a callback.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use chrono::{DateTime, Utc};
use tokio::sync::oneshot;

use crate::orders::StoredOrderData;

const WAITER_SHARD_COUNT: usize = 64;

type WaiterShard = Mutex<HashMap<i32, CallbackWaiter>>;

struct CallbackWaiter {
    since: DateTime<Utc>,
    data: oneshot::Sender<StoredOrderData>,
}

/// Who waits for what; sharded, so that threads rarely meet.
pub(super) struct CallbackWaiters(Arc<[WaiterShard]>);

impl Default for CallbackWaiters {
    fn default() -> Self {
        Self((0..WAITER_SHARD_COUNT).map(|_| WaiterShard::default()).collect())
    }
}

impl CallbackWaiters {
    /// Waits for an order's data until dropped.
    pub(super) fn register_order(&self, order_id: i32, since: DateTime<Utc>) -> CallbackFuture {
        let (data, receiver) = oneshot::channel();
        lock_waiter_shard(&self.0, order_id).insert(order_id, CallbackWaiter { since, data });
        CallbackFuture { order_id, shards: self.0.clone(), receiver: Some(receiver) }
    }

    pub(super) fn deliver(&self, order_id: i32, stored: StoredOrderData) -> bool {
        let waiter = lock_waiter_shard(&self.0, order_id).remove(&order_id);
        waiter.is_some_and(|waiter| waiter.data.send(stored).is_ok())
    }

    pub(super) fn waiting_since(&self, order_id: i32) -> Option<DateTime<Utc>> {
        lock_waiter_shard(&self.0, order_id).get(&order_id).map(|waiter| waiter.since)
    }

    /// Ends the waiting: the data, if it came in the last moment.
    pub(super) fn unregister_order(
        &self,
        order_id: i32,
        mut callback_future: CallbackFuture,
    ) -> Option<StoredOrderData> {
        lock_waiter_shard(&self.0, order_id).remove(&order_id);
        callback_future.receiver.as_mut()?.try_recv().ok()
    }
}

fn lock_waiter_shard(
    shards: &[WaiterShard],
    order_id: i32,
) -> MutexGuard<'_, HashMap<i32, CallbackWaiter>> {
    let index = order_id.unsigned_abs() as usize % shards.len();
    shards[index].lock().unwrap_or_else(PoisonError::into_inner)
}

/// Resolves to an order's data when that has been committed.
pub(super) struct CallbackFuture {
    order_id: i32,
    shards: Arc<[WaiterShard]>,
    /// `None` once another attempt at the same order waits instead of this one: this one never hears.
    receiver: Option<oneshot::Receiver<StoredOrderData>>,
}

impl Future for CallbackFuture {
    type Output = StoredOrderData;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<StoredOrderData> {
        let Some(receiver) = self.receiver.as_mut() else { return Poll::Pending };
        match Pin::new(receiver).poll(context) {
            Poll::Ready(Ok(data)) => Poll::Ready(data),
            Poll::Ready(Err(_)) => {
                self.receiver = None;
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for CallbackFuture {
    fn drop(&mut self) {
        // Only its own entry: it is closed by now, another attempt's is not.
        let shards = self.shards.clone();
        let mut shard = lock_waiter_shard(&shards, self.order_id);
        if let Some(receiver) = self.receiver.as_mut() {
            receiver.close();
        }
        if shard.get(&self.order_id).is_some_and(|waiter| waiter.data.is_closed()) {
            shard.remove(&self.order_id);
        }
    }
}
