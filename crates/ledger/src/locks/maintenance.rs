//! Maintenance task of a shard's lock queues, idle while no caller waits.
//!
//! - Cost: one heartbeat statement per second for all waiters of this process; it also finds missed
//!   grants. Expiries are handled by one timer per key, at the earliest time that a call reported.
//! - Promise: a lost notification delays a grant by one heartbeat; a process without heartbeat
//!   loses its places after four.

use std::sync::Arc;
use std::time::Duration;

use store::{PgNotification, PgNotificationHub};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::queries::LOCKS_CHANNEL;
use super::queue::LockQueue;

/// Heartbeat interval; a process is considered dead after four of them.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Every so many heartbeats, abandoned places are deleted.
const CLEANUP_BEAT_COUNT: u64 = 30;

/// Notification listener of a shard, started with the first waiter: most processes never wait, and
/// need no connection for it.
struct LockNotifications {
    receiver: Receiver<PgNotification>,
    task: JoinHandle<()>,
}

impl LockNotifications {
    fn start(queue: &LockQueue) -> Self {
        let (notifications, task) =
            PgNotificationHub::start(queue.pool.clone(), vec![LOCKS_CHANNEL]);
        Self { receiver: notifications.subscribe(), task }
    }
}

impl Drop for LockNotifications {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Runs the maintenance of one shard's queues; never returns in normal operation.
pub(super) async fn maintain_queue(queue: Arc<LockQueue>) {
    let mut notifications: Option<LockNotifications> = None;
    let (mut beats, mut next_beat) = (0_u64, None);
    let mut heartbeat = tokio::spawn(std::future::ready(()));
    loop {
        if queue.len() > 0 {
            // Notifications sent before the listener is ready are covered by `Missed`.
            notifications.get_or_insert_with(|| LockNotifications::start(&queue));
        }
        let (due, next_timer) = queue.take_due_keys();
        for key in due {
            let queue = queue.clone();
            tokio::spawn(async move { queue.hand_over_lock(key).await });
        }
        let now = Instant::now();
        // The statement that joins the queue also records that this process is alive.
        next_beat = (queue.len() > 0).then(|| next_beat.unwrap_or(now + HEARTBEAT_INTERVAL));
        if next_beat.is_some_and(|at| at <= now) {
            next_beat = Some(now + HEARTBEAT_INTERVAL);
            if heartbeat.is_finished() {
                beats += 1;
                let (queue, forget) = (queue.clone(), beats.is_multiple_of(CLEANUP_BEAT_COUNT));
                heartbeat = tokio::spawn(async move { queue.keep_waiters(forget).await });
            }
        }
        tokio::select! {
            () = queue.changed.notified() => {}
            () = wait_until([next_timer, next_beat].into_iter().flatten().min()) => {}
            told = next(&mut notifications) => match told {
                Ok(PgNotification::Received { payload, .. }) => {
                    if let Ok(lock_id) = payload.parse() {
                        queue.notify_waiter(lock_id, None);
                    }
                }
                // Any notification may have been lost: send a heartbeat immediately.
                Ok(PgNotification::Missed) | Err(RecvError::Lagged(_)) => next_beat = next_beat.map(|_| Instant::now()),
                Err(RecvError::Closed) => return,
            },
        }
    }
}

/// Next notification; pending while no listener runs.
async fn next(notifications: &mut Option<LockNotifications>) -> Result<PgNotification, RecvError> {
    match notifications {
        Some(listening) => listening.receiver.recv().await,
        None => std::future::pending().await,
    }
}

/// Sleeps until `moment`; `None` never returns.
async fn wait_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
