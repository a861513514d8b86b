//! Looking after a shard's lines, as long as anybody waits in them.
//!
//! One statement a second keeps the places of all callers of this process and finds what was missed; an expiry is
//! waited for by a timer per key, set by whoever learnt of it last. While nobody waits nothing is asked.

use std::sync::Arc;
use std::time::Duration;

use store::{PgNotification, PgNotificationHub};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::queries::LOCKS_CHANNEL;
use super::queue::LockQueue;

/// How often waiting callers are kept and looked after: a process is believed dead after four of these.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// After so many beats, what nobody came back for is forgotten.
const CLEANUP_BEAT_COUNT: u64 = 30;

/// What is told on a shard, from the first caller on who waits there: most processes have none, and hold no connection
/// for them.
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

/// Looks after a line for ever.
pub(super) async fn maintain_queue(queue: Arc<LockQueue>) {
    let mut notifications: Option<LockNotifications> = None;
    let (mut beats, mut next_beat) = (0_u64, None);
    let mut heartbeat = tokio::spawn(std::future::ready(()));
    loop {
        if queue.len() > 0 {
            // What was said before it has begun counts as missed.
            notifications.get_or_insert_with(|| LockNotifications::start(&queue));
        }
        let (due, next_timer) = queue.take_due_keys();
        for key in due {
            let queue = queue.clone();
            tokio::spawn(async move { queue.hand_over_lock(key).await });
        }
        let now = Instant::now();
        // Who joins a line says in the same statement that this process lives.
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
                // Anything may have been missed.
                Ok(PgNotification::Missed) | Err(RecvError::Lagged(_)) => next_beat = next_beat.map(|_| Instant::now()),
                Err(RecvError::Closed) => return,
            },
        }
    }
}

/// What is told next; nothing while nobody listens.
async fn next(notifications: &mut Option<LockNotifications>) -> Result<PgNotification, RecvError> {
    match notifications {
        Some(listening) => listening.receiver.recv().await,
        None => std::future::pending().await,
    }
}

/// Returns at a moment, or never.
async fn wait_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
