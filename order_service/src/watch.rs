//! Who waits for which order's outcome: open requests and streams of this process.
//!
//! Orders that this process works on are heard of when their end is committed. Those underway elsewhere (another
//! replica, or a lane this process lost) are followed by asking the database, all of them in one query, ten times a
//! second while there are any.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use tokio::time::Instant;

use crate::orders::{self, Audience, News, State, Told};

const SHARDS: usize = 64;
/// How often orders underway elsewhere are looked up.
const FOLLOW_EVERY: Duration = Duration::from_millis(100);

/// Hears of orders. Must not block.
pub trait Listener: Send + Sync {
    /// News of an order; `true` if nothing more about it is of interest.
    fn hear(&self, told: &Told) -> bool;
}

type Shard = Mutex<HashMap<i32, Vec<Arc<dyn Listener>>>>;

/// Everybody who waits. Clones share it.
#[derive(Clone)]
pub struct Watch {
    shards: Arc<[Shard]>,
    followed: Arc<Mutex<HashSet<i32>>>,
    follow: Arc<tokio::sync::Notify>,
}

impl Watch {
    /// Nobody waits yet. Starts the task that follows orders underway elsewhere.
    pub fn start(pool: PgPool) -> Self {
        let watch = Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            followed: Arc::default(),
            follow: Arc::default(),
        };
        tokio::spawn(follow(watch.clone(), pool));
        watch
    }

    /// `listener` hears of these orders from now on, until it has heard enough or the guard is dropped.
    pub fn listen(&self, listener: &Arc<dyn Listener>, ids: Vec<i32>) -> Listening {
        for id in &ids {
            self.shard(*id).entry(*id).or_default().push(listener.clone());
        }
        Listening { watch: self.clone(), listener: listener.clone(), ids }
    }

    /// Tells the listeners.
    pub fn tell(&self, told: &[Told]) {
        for news in told {
            let mut shard = self.shard(news.order_id);
            let Some(listeners) = shard.get_mut(&news.order_id) else { continue };
            listeners.retain(|listener| !listener.hear(news));
            if listeners.is_empty() {
                shard.remove(&news.order_id);
            }
        }
    }

    /// These are underway, perhaps elsewhere: look after them.
    pub fn follow(&self, ids: &[i32]) {
        self.followed().extend(ids);
        self.follow.notify_one();
    }

    /// Everything that is waited for may be elsewhere: look after all of it.
    pub fn follow_all(&self) {
        let shards = self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner));
        let ids: Vec<i32> = shards.flat_map(|shard| shard.keys().copied().collect::<Vec<_>>()).collect();
        self.follow(&ids);
    }

    fn shard(&self, id: i32) -> MutexGuard<'_, HashMap<i32, Vec<Arc<dyn Listener>>>> {
        let shard = id.unsigned_abs() as usize % self.shards.len();
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn followed(&self) -> MutexGuard<'_, HashSet<i32>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Audience for Watch {
    fn tell(&self, told: &[Told]) {
        Watch::tell(self, told);
    }

    fn left(&self, order_id: i32) {
        self.follow(&[order_id]);
    }
}

/// While this lives, the listener hears.
pub struct Listening {
    watch: Watch,
    listener: Arc<dyn Listener>,
    ids: Vec<i32>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        for id in &self.ids {
            let mut shard = self.watch.shard(*id);
            let Some(listeners) = shard.get_mut(id) else { continue };
            listeners.retain(|listener| !Arc::ptr_eq(listener, &self.listener));
            if listeners.is_empty() {
                shard.remove(id);
            }
        }
    }
}

async fn follow(watch: Watch, pool: PgPool) {
    loop {
        let ids: Vec<i32> = {
            let mut followed = watch.followed();
            // Nobody listens any more: nothing to look up.
            followed.retain(|id| watch.shard(*id).contains_key(id));
            followed.iter().copied().collect()
        };
        if ids.is_empty() {
            watch.follow.notified().await;
            continue;
        }
        let asked = Instant::now();
        match orders::load(&pool, ids).await {
            Ok(orders) => {
                let ended = |order: orders::Order| {
                    let news = match order.state {
                        State::ProcessFinished => News::Finished,
                        State::Failed => News::Failed,
                        _ => return None,
                    };
                    Some(Told { order_id: order.order_id, data: order.data, news })
                };
                watch.tell(&orders.into_iter().filter_map(ended).collect::<Vec<_>>());
            }
            Err(error) => {
                tracing::warn!(%error, code = "UNAVAILABLE", "orders underway elsewhere could not be looked up")
            }
        }
        // However many they are, looking them up takes a fifth of one connection's time at most.
        tokio::time::sleep(FOLLOW_EVERY.max(asked.elapsed() * 4)).await;
    }
}
