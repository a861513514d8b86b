//! Registry of the orders of this process that wait for a callback.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use chrono::{DateTime, Utc};
use store::FairTurn;
use tokio::sync::oneshot;

use crate::orders::OrderId;
use crate::orders::db::{StoredCallback, StoredOrderData};

const WAITER_SHARD_COUNT: usize = 64;

type WaiterShard = Mutex<HashMap<OrderId, CallbackWaiter>>;

struct CallbackWaiter {
    since: DateTime<Utc>,
    /// Turn of the order's request in the fair queues.
    turn: FairTurn,
    data: oneshot::Sender<StoredOrderData>,
}

/// Waiting orders by id, sharded to avoid lock contention.
pub(super) struct CallbackWaiters(Arc<[WaiterShard]>);

impl Default for CallbackWaiters {
    fn default() -> Self {
        Self((0..WAITER_SHARD_COUNT).map(|_| WaiterShard::default()).collect())
    }
}

impl CallbackWaiters {
    /// Registers a waiting order; dropping the future removes the entry.
    pub(super) fn register_order(
        &self,
        order_id: OrderId,
        since: DateTime<Utc>,
        turn: FairTurn,
    ) -> CallbackFuture {
        let (data, receiver) = oneshot::channel();
        let waiter = CallbackWaiter { since, turn, data };
        lock_waiter_shard(&self.0, order_id).insert(order_id, waiter);
        CallbackFuture { order_id, shards: self.0.clone(), receiver: Some(receiver) }
    }

    pub(super) fn deliver(&self, callback: StoredCallback) -> bool {
        let StoredCallback { order_id, stored } = callback;
        let waiter = lock_waiter_shard(&self.0, order_id).remove(&order_id);
        waiter.is_some_and(|waiter| waiter.data.send(stored).is_ok())
    }

    pub(super) fn waiting_since(&self, order_id: OrderId) -> Option<DateTime<Utc>> {
        lock_waiter_shard(&self.0, order_id).get(&order_id).map(|waiter| waiter.since)
    }

    pub(super) fn turn_of(&self, order_id: OrderId) -> Option<FairTurn> {
        lock_waiter_shard(&self.0, order_id).get(&order_id).map(|waiter| waiter.turn)
    }

    /// Removes the entry. Returns the data if it was delivered in the meantime.
    pub(super) fn unregister_order(
        &self,
        order_id: OrderId,
        mut callback_future: CallbackFuture,
    ) -> Option<StoredOrderData> {
        lock_waiter_shard(&self.0, order_id).remove(&order_id);
        callback_future.receiver.as_mut()?.try_recv().ok()
    }
}

fn lock_waiter_shard(
    shards: &[WaiterShard],
    order_id: OrderId,
) -> MutexGuard<'_, HashMap<OrderId, CallbackWaiter>> {
    shards[order_id.shard_index(shards.len())].lock().unwrap_or_else(PoisonError::into_inner)
}

/// Resolves to an order's data after its commit.
pub(super) struct CallbackFuture {
    order_id: OrderId,
    shards: Arc<[WaiterShard]>,
    /// `None` after a newer attempt of the same order has replaced the entry: stays pending.
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
        // Removes this attempt's entry only: its channel is closed by now, a newer attempt's is
        // open.
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
