//! Running attempts of this process, for cancellation.
//!
//! `NOTIFY` signals a cancellation; polling every 2 s covers lost notifications. Nothing is queried
//! while no attempt runs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use store::{ChannelWakeup, PgNotificationHub, Result};
use tokio_util::sync::CancellationToken;

use crate::TaskId;
use crate::control::CANCELLED_CHANNEL;

const CANCELLED_POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Registry of running attempts by task id and attempt number; clones share it.
#[derive(Clone, Default)]
pub struct RunningAttempts(Arc<Mutex<HashMap<(TaskId, u32), CancellationToken>>>);

/// Registration of a running attempt, until dropped.
pub(crate) struct RunningAttemptGuard {
    running: RunningAttempts,
    attempt: (TaskId, u32),
    pub(crate) cancellation: CancellationToken,
}

impl Drop for RunningAttemptGuard {
    fn drop(&mut self) {
        self.running.lock().remove(&self.attempt);
    }
}

impl RunningAttempts {
    /// Starts listening for cancellations; `notifications` must listen on [`CANCELLED_CHANNEL`].
    pub fn start(pool: PgPool, notifications: &PgNotificationHub, stop: CancellationToken) -> Self {
        let running = Self::default();
        let (watched, mut subscriber) = (
            running.clone(),
            notifications.subscribe_channel(CANCELLED_CHANNEL, CANCELLED_POLL_INTERVAL),
        );
        tokio::spawn(async move {
            while !stop.is_cancelled() {
                match subscriber.next().await {
                    ChannelWakeup::Notified(task_id) => {
                        if let Ok(task_id) = task_id.parse() {
                            watched.cancel_task(task_id);
                        }
                    }
                    ChannelWakeup::PollDue => watched.poll_cancelled(&pool).await,
                }
            }
        });
        running
    }

    pub(crate) fn register(&self, task_id: TaskId, number: u32) -> RunningAttemptGuard {
        let (attempt, cancellation) = ((task_id, number), CancellationToken::new());
        self.lock().insert(attempt, cancellation.clone());
        RunningAttemptGuard { running: self.clone(), attempt, cancellation }
    }

    fn cancel_task(&self, task_id: TaskId) {
        for ((task, _), token) in self.lock().iter() {
            if *task == task_id {
                token.cancel();
            }
        }
    }

    async fn poll_cancelled(&self, pool: &PgPool) {
        let ids: Vec<TaskId> = self.lock().keys().map(|(task_id, _)| *task_id).collect();
        if ids.is_empty() {
            return;
        }
        let cancelled: Result<Vec<TaskId>> = store::statement(
            "cancelled_tasks",
            "SELECT task_id FROM tasks WHERE task_id = ANY ($1) AND status = 'cancelled'",
        )
        .bind(ids)
        .fetch_values(pool)
        .await;
        for task_id in cancelled.unwrap_or_default() {
            self.cancel_task(task_id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(TaskId, u32), CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
