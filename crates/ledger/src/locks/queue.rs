//! One process's view of a shard's lock queues: its waiting callers, and timers for expiries.
//!
//! - Shape: `waiters` by lock id, `timers` by key.
//! - Cost: about half of the pool's connections at most for lock calls.
//! - Promise: a waiter is woken by the call that grants its lock, directly within this process, by
//!   `NOTIFY` from another one (see [`super::maintenance`]).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use store::Result;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::answers::{LockEvent, LockGrant, LockOutcome};
use super::queries::{self, LockAnswer, LockCall};

/// Minimum interval between two attempts to end a lock that transactions still write under.
const MIN_RECHECK_INTERVAL: Duration = Duration::from_millis(10);
/// Timeout of a release that waits for transactions under the lock.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(30);
/// Attempts to leave the queue while the database is unavailable; each takes a few seconds.
const MAX_LEAVE_ATTEMPTS: usize = 20;
const LEAVE_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Wakeup channel of the callers that wait for one lock id.
struct LockWaiter {
    /// The grant; `None` means that the caller must call again.
    grants: watch::Sender<Option<LockGrant>>,
    /// Whether the database has confirmed the place; before, the first call is in progress.
    is_queued: bool,
}

impl Default for LockWaiter {
    fn default() -> Self {
        Self { grants: watch::Sender::new(None), is_queued: false }
    }
}

/// Queues of one shard, as known to this process.
pub(super) struct LockQueue {
    pub(super) pool: PgPool,
    pub(super) process_id: Uuid,
    /// Waiting callers by lock id.
    waiters: Mutex<HashMap<Uuid, LockWaiter>>,
    /// Next hand-over by key.
    timers: Mutex<HashMap<Uuid, Instant>>,
    /// Signals a new waiter or timer to the maintenance task.
    pub(super) changed: Notify,
    /// Limit on concurrent calls: contention on one lock must not use up the pool.
    call_permits: Semaphore,
    /// Cancelled at shutdown.
    pub(super) stopping: CancellationToken,
}

impl LockQueue {
    pub(super) fn new(pool: PgPool, process_id: Uuid) -> Self {
        let permits =
            usize::try_from(pool.options().get_max_connections().div_ceil(2)).unwrap_or(1).max(1);
        Self {
            pool,
            process_id,
            waiters: Mutex::default(),
            timers: Mutex::default(),
            changed: Notify::new(),
            call_permits: Semaphore::new(permits),
            stopping: CancellationToken::new(),
        }
    }

    /// Number of callers that wait or are about to.
    pub(super) fn len(&self) -> usize {
        lock_mutex(&self.waiters).len()
    }

    /// Subscribes to wakeups of a lock id.
    pub(super) fn subscribe(self: &Arc<Self>, lock_id: Uuid) -> LockSubscriber {
        let grants = lock_mutex(&self.waiters).entry(lock_id).or_default().grants.subscribe();
        self.changed.notify_one();
        LockSubscriber { queue: self.clone(), lock_id, grants: Some(grants) }
    }

    pub(super) async fn take_lock(
        &self,
        lock_id: Uuid,
        lock_call: &Arc<LockCall>,
        waits: bool,
    ) -> Result<LockOutcome> {
        let answer =
            self.with_call_permit(queries::take_lock(&self.pool, lock_id, lock_call, waits)).await;
        let outcome = self.apply_answer(answer)?;
        if let LockOutcome::Queued(lock_id) = outcome
            && let Some(waiter) = lock_mutex(&self.waiters).get_mut(&lock_id)
        {
            waiter.is_queued = true;
        }
        Ok(outcome)
    }

    /// Leaves the queue; retries transient errors for [`MAX_LEAVE_ATTEMPTS`] attempts.
    pub(super) async fn leave_queue(&self, lock_id: Uuid, lock_call: &LockCall) {
        for _ in 0..MAX_LEAVE_ATTEMPTS {
            match self.with_call_permit(queries::leave_lock(&self.pool, lock_id, lock_call)).await {
                Err(error) if error.is_transient() => {
                    tokio::time::sleep(LEAVE_RETRY_INTERVAL).await
                }
                answer => {
                    let _ = self.apply_answer(answer);
                    // Other callers may wait for the same request.
                    self.notify_waiter(lock_id, None);
                    return;
                }
            }
        }
    }

    pub(super) async fn release_lock(&self, lock_id: Uuid) -> Result<LockOutcome> {
        let (attempt, started) = (Uuid::new_v4(), Instant::now());
        loop {
            let answer = queries::release_lock(&self.pool, lock_id, attempt, self.process_id);
            match self.apply_answer(self.with_call_permit(answer).await)? {
                LockOutcome::Busy if started.elapsed() < RELEASE_TIMEOUT => {
                    tokio::time::sleep(MIN_RECHECK_INTERVAL).await
                }
                outcome => return Ok(outcome),
            }
        }
    }

    pub(super) async fn extend_lock(&self, lock_id: Uuid, ttl: Duration) -> Result<LockOutcome> {
        let answer = self
            .with_call_permit(queries::extend_lock(&self.pool, lock_id, ttl, self.process_id))
            .await;
        self.apply_answer(answer)
    }

    async fn with_call_permit<T>(&self, call: impl Future<Output = T>) -> T {
        // The semaphore is never closed.
        let _permit = self.call_permits.acquire().await;
        call.await
    }

    /// Applies the events of an answer; returns the caller's outcome.
    fn apply_answer(&self, answer: Result<LockAnswer>) -> Result<LockOutcome> {
        let (outcome, events) = answer?;
        for event in events {
            match event {
                LockEvent::Granted(grant) => self.notify_waiter(grant.lock_id, Some(grant)),
                LockEvent::AskAgain(lock_id) => self.notify_waiter(lock_id, None),
                LockEvent::Timer { key, delay: after } => self.set_timer(key, after),
            }
        }
        // Calls without a caller have no outcome.
        Ok(outcome.unwrap_or(LockOutcome::Unknown))
    }

    pub(super) fn notify_waiter(&self, lock_id: Uuid, grant: Option<LockGrant>) {
        if let Some(waiter) = lock_mutex(&self.waiters).get(&lock_id) {
            waiter.grants.send_replace(grant);
        }
    }

    fn set_timer(&self, key: Uuid, delay: Duration) {
        let at = Instant::now() + delay.max(MIN_RECHECK_INTERVAL);
        let mut timers = lock_mutex(&self.timers);
        let timer = timers.entry(key).or_insert(at);
        *timer = at.min(*timer);
        self.changed.notify_one();
    }

    /// Takes the keys whose timers are due; also returns the time of the next timer.
    pub(super) fn take_due_keys(&self) -> (Vec<Uuid>, Option<Instant>) {
        let (mut timers, now) = (lock_mutex(&self.timers), Instant::now());
        let due = timers.extract_if(|_, at| *at <= now).map(|(key, _)| key).collect();
        (due, timers.values().min().copied())
    }

    /// Ends expired locks of a key and grants to the next waiters.
    pub(super) async fn hand_over_lock(&self, key: Uuid) {
        let answer =
            self.with_call_permit(queries::hand_over_lock(&self.pool, key, self.process_id)).await;
        if let Err(error) = self.apply_answer(answer) {
            tracing::warn!(%error, code = "UNAVAILABLE", "a lock could not be handed over");
        }
    }

    /// Lock ids whose place in the queue the database has confirmed.
    fn list_queued_ids(&self) -> Vec<Uuid> {
        let waiters = lock_mutex(&self.waiters);
        let queued = waiters.iter().filter(|(_, waiter)| waiter.is_queued);
        queued.map(|(lock_id, _)| *lock_id).collect()
    }

    /// Heartbeat: keeps all waiters queued and delivers what they missed.
    pub(super) async fn keep_waiters(&self, forget: bool) {
        let waiting = self.list_queued_ids();
        if waiting.is_empty() {
            return;
        }
        // Without a permit: the heartbeat must not queue behind other calls.
        if let Err(error) = self
            .apply_answer(queries::keep_waiting(&self.pool, self.process_id, waiting, forget).await)
        {
            tracing::warn!(%error, code = "UNAVAILABLE", "places in line could not be kept");
        }
    }
}

/// Subscription of one caller; ends on drop.
pub(super) struct LockSubscriber {
    queue: Arc<LockQueue>,
    lock_id: Uuid,
    grants: Option<watch::Receiver<Option<LockGrant>>>,
}

impl LockSubscriber {
    /// Waits for a wakeup: a grant, or `None` to call again.
    pub(super) async fn wait_for_grant(&mut self) -> Option<LockGrant> {
        let grants = self.grants.as_mut()?;
        // The sender lives as long as a subscriber.
        grants.changed().await.ok()?;
        *grants.borrow_and_update()
    }
}

impl Drop for LockSubscriber {
    fn drop(&mut self) {
        let mut waiters = lock_mutex(&self.queue.waiters);
        self.grants = None;
        if waiters.get(&self.lock_id).is_some_and(|waiter| waiter.grants.receiver_count() == 0) {
            waiters.remove(&self.lock_id);
        }
    }
}

fn lock_mutex<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
