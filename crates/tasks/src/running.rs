//! The attempts that this process has in work, so that cancelled ones can be dropped.
//!
//! `NOTIFY` wakes, a look every two seconds decides; nothing is asked while nothing is in work.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use store::{Notifications, Result, Told, run};
use tokio_util::sync::CancellationToken;

use crate::control::CANCELLED_CHANNEL;

const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What is in work; clones share it.
#[derive(Clone, Default)]
pub struct Running(Arc<Mutex<HashMap<(i64, u32), CancellationToken>>>);

/// An attempt in work, until this is dropped.
pub(crate) struct InWork {
    running: Running,
    attempt: (i64, u32),
    pub(crate) cancelled: CancellationToken,
}

impl Drop for InWork {
    fn drop(&mut self) {
        self.running.lock().remove(&self.attempt);
    }
}

impl Running {
    /// Starts listening for tasks that are cancelled; `notifications` must listen on [`CANCELLED_CHANNEL`].
    pub fn start(pool: PgPool, notifications: &Notifications, stop: CancellationToken) -> Self {
        let running = Self::default();
        let (watched, mut heard) = (running.clone(), notifications.listener(CANCELLED_CHANNEL, LOOK_EVERY));
        tokio::spawn(async move {
            while !stop.is_cancelled() {
                match heard.next().await {
                    Told::Said(task_id) => task_id.parse().iter().for_each(|id| watched.cancel(*id)),
                    Told::Look => watched.look(&pool).await,
                }
            }
        });
        running
    }

    pub(crate) fn begin(&self, task_id: i64, number: u32) -> InWork {
        let (attempt, cancelled) = ((task_id, number), CancellationToken::new());
        self.lock().insert(attempt, cancelled.clone());
        InWork { running: self.clone(), attempt, cancelled }
    }

    fn cancel(&self, task_id: i64) {
        let running = self.lock();
        running.iter().filter(|((task, _), _)| *task == task_id).for_each(|(_, token)| token.cancel());
    }

    async fn look(&self, pool: &PgPool) {
        let ids: Vec<i64> = self.lock().keys().map(|(task_id, _)| *task_id).collect();
        if ids.is_empty() {
            return;
        }
        let cancelled: Result<Vec<i64>> = run(pool, "cancelled_tasks", move |connection| {
            let ids = ids.clone();
            Box::pin(async move {
                let asked = sqlx::query_scalar(
                    "SELECT task_id FROM tasks WHERE task_id = ANY ($1) AND status = 'cancelled' -- cancelled_tasks",
                );
                Ok(asked.bind(ids).fetch_all(connection).await?)
            })
        })
        .await;
        cancelled.iter().flatten().for_each(|task_id| self.cancel(*task_id));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(i64, u32), CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
