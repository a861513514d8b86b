//! Subscriptions of this process's requests and streams to order outcomes.
//!
//! - Shape: outcomes of local orders are published after their commit. Orders processed elsewhere
//!   (another replica, or a lost lane) are polled.
//! - Cost: one query for all polled orders, at most ten times a second; none if there are none.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use tokio::time::Instant;

use crate::orders::OrderId;
use crate::orders::db::{self, OrderState, OutcomeKind, OutcomeNotice, OutcomeSink};

const SUBSCRIBER_SHARD_COUNT: usize = 64;
/// Poll interval for orders processed elsewhere.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(100);

/// Receives outcome notices. Must not block.
pub trait OutcomeSubscriber: Send + Sync {
    /// Handles a notice; `true` ends the subscription to this order.
    fn on_outcome(&self, notice: &OutcomeNotice) -> bool;
}

type SubscriberShard = Mutex<HashMap<OrderId, Vec<Arc<dyn OutcomeSubscriber>>>>;

/// Subscribers by order id. Clones share them.
#[derive(Clone)]
pub struct OutcomeHub {
    shards: Arc<[SubscriberShard]>,
    followed_orders: Arc<Mutex<HashSet<OrderId>>>,
    follow_wakeup: Arc<tokio::sync::Notify>,
}

impl OutcomeHub {
    /// An empty hub; starts the task that polls orders processed elsewhere.
    pub fn start(pool: PgPool) -> Self {
        let hub = Self {
            shards: (0..SUBSCRIBER_SHARD_COUNT).map(|_| SubscriberShard::default()).collect(),
            followed_orders: Arc::default(),
            follow_wakeup: Arc::default(),
        };
        tokio::spawn(run_follower(hub.clone(), pool));
        hub
    }

    /// Subscribes to these orders, until `on_outcome` returns `true` or the guard is dropped.
    pub fn subscribe(
        &self,
        subscriber: &Arc<dyn OutcomeSubscriber>,
        ids: Vec<OrderId>,
    ) -> OutcomeSubscription {
        for id in &ids {
            self.lock_shard(*id).entry(*id).or_default().push(subscriber.clone());
        }
        OutcomeSubscription { hub: self.clone(), subscriber: subscriber.clone(), ids }
    }

    /// Notifies the subscribers of these orders.
    pub fn publish(&self, notices: &[OutcomeNotice]) {
        for notice in notices {
            let mut shard = self.lock_shard(notice.order_id);
            let Some(subscribers) = shard.get_mut(&notice.order_id) else { continue };
            subscribers.retain(|listener| !listener.on_outcome(notice));
            if subscribers.is_empty() {
                shard.remove(&notice.order_id);
            }
        }
    }

    /// Starts polling these orders, which may be processed elsewhere.
    pub fn follow_orders(&self, ids: &[OrderId]) {
        self.lock_followed_orders().extend(ids);
        self.follow_wakeup.notify_one();
    }

    /// Starts polling all orders that have subscribers.
    pub fn follow_all_orders(&self) {
        let shards =
            self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner));
        let ids: Vec<OrderId> =
            shards.flat_map(|shard| shard.keys().copied().collect::<Vec<_>>()).collect();
        self.follow_orders(&ids);
    }

    fn lock_shard(
        &self,
        id: OrderId,
    ) -> MutexGuard<'_, HashMap<OrderId, Vec<Arc<dyn OutcomeSubscriber>>>> {
        self.shards[id.shard_index(self.shards.len())]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_followed_orders(&self) -> MutexGuard<'_, HashSet<OrderId>> {
        self.followed_orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OutcomeSink for OutcomeHub {
    fn publish_outcomes(&self, notices: &[OutcomeNotice]) {
        OutcomeHub::publish(self, notices);
    }

    fn follow_order(&self, order_id: OrderId) {
        self.follow_orders(&[order_id]);
    }
}

/// Guard that unsubscribes when dropped.
pub struct OutcomeSubscription {
    hub: OutcomeHub,
    subscriber: Arc<dyn OutcomeSubscriber>,
    ids: Vec<OrderId>,
}

impl Drop for OutcomeSubscription {
    fn drop(&mut self) {
        for id in &self.ids {
            let mut shard = self.hub.lock_shard(*id);
            let Some(subscribers) = shard.get_mut(id) else { continue };
            subscribers.retain(|listener| !Arc::ptr_eq(listener, &self.subscriber));
            if subscribers.is_empty() {
                shard.remove(id);
            }
        }
    }
}

async fn run_follower(hub: OutcomeHub, pool: PgPool) {
    loop {
        let ids: Vec<OrderId> = {
            let mut followed = hub.lock_followed_orders();
            // Orders without subscribers need no lookup.
            followed.retain(|id| hub.lock_shard(*id).contains_key(id));
            followed.iter().copied().collect()
        };
        if ids.is_empty() {
            hub.follow_wakeup.notified().await;
            continue;
        }
        let started = Instant::now();
        match db::load_orders(&pool, ids).await {
            Ok(orders) => {
                let notices: Vec<OutcomeNotice> =
                    orders.iter().filter_map(build_outcome_notice).collect();
                hub.publish(&notices);
            }
            Err(error) => {
                tracing::warn!(%error, code = "UNAVAILABLE", "orders underway elsewhere could not be looked up")
            }
        }
        // Uses at most a fifth of one connection's time, however many orders are polled.
        tokio::time::sleep(FOLLOW_INTERVAL.max(started.elapsed() * 4)).await;
    }
}

/// The outcome of a stored order; `None` until it has ended.
fn build_outcome_notice(order: &db::Order) -> Option<OutcomeNotice> {
    let kind = match order.state {
        OrderState::ProcessFinished => OutcomeKind::Finished,
        OrderState::Failed => OutcomeKind::OrderFailed,
        _ => return None,
    };
    Some(OutcomeNotice { order_id: order.order_id, data: order.data, kind })
}
