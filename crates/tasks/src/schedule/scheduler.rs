//! Scheduler: enqueues a task for each due tick.
//!
//! - Cost: one poll per second while nothing is due.
//! - Promise: due ticks are enqueued in the transaction that advances the watermark `done_until`,
//!   by compare-and-set and fenced by the duty's lease. A scheduler with an expired lease changes
//!   nothing.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use sqlx::PgConnection;
use store::{Error, Lease, PgNotification, PgNotificationHub, Result};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout};

use super::stored::{SCHEDULES_CHANNEL, advance_done_until_in_tx, read_schedules};
use super::{CronExpression, StoredSchedule, due_ticks};
use crate::{NewTask, ScheduleTick, TaskStore, forget_old_tasks};

/// Poll interval: the bound on staleness after a lost notification.
const SCHEDULE_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Interval between retention passes.
const FORGET_INTERVAL: Duration = Duration::from_secs(60);

/// Scheduler of tasks; runs as a duty.
#[derive(Clone)]
pub struct TaskScheduler {
    /// Store for the enqueued tasks.
    pub tasks: TaskStore,
    /// Must listen on [`SCHEDULES_CHANNEL`].
    pub notifications: PgNotificationHub,
    /// Retention of ended tasks.
    pub retention: Duration,
}

/// Due ticks of one schedule.
struct DueTicks {
    stored: StoredSchedule,
    ticks: Vec<DateTime<Utc>>,
}

impl TaskScheduler {
    /// Runs until the lease is lost or the database fails.
    pub async fn run(self, lease: Arc<Lease>) {
        let mut notifications = self.notifications.subscribe();
        let mut last_forget: Option<Instant> = None;
        loop {
            let wait_time = match self.enqueue_due_ticks(&lease).await {
                Ok(pause) => pause,
                Err(Error::Fenced { .. }) => return,
                Err(error) => {
                    tracing::warn!(%error, code = "UNAVAILABLE", "scheduled tasks not enqueued");
                    return;
                }
            };
            if last_forget.is_none_or(|last| last.elapsed() > FORGET_INTERVAL) {
                let pass = forget_old_tasks(&self.tasks.pool, self.retention).await;
                // While more is left, the next pass runs in the next iteration.
                last_forget =
                    Some(Instant::now()).filter(|_| !matches!(&pass, Ok(pass) if pass.has_more));
                if let Err(error) = pass {
                    tracing::warn!(%error, code = "UNAVAILABLE", "old tasks not forgotten");
                }
            }
            let _ = timeout(wait_time, wait_for_schedule_change(&mut notifications)).await;
        }
    }

    /// Enqueues due ticks; returns the wait until a tick may be due again.
    pub async fn enqueue_due_ticks(&self, lease: &Arc<Lease>) -> Result<Duration> {
        let read = store::run_statement(&self.tasks.pool, "read_schedules", |connection| {
            Box::pin(read_schedules(connection))
        });
        let (stored, now) = read.await?;
        let mut wait_time = SCHEDULE_POLL_INTERVAL;
        let mut all_due = Vec::new();
        for stored in stored {
            let Ok(cron) = CronExpression::parse(&stored.definition.schedule) else {
                // Validated when written, but perhaps by another program version.
                let name = stored.definition.name;
                tracing::error!(
                    schedule = name,
                    code = "CONSISTENCY_ERROR",
                    "a stored schedule is no cron expression"
                );
                continue;
            };
            let next = cron.next(now).and_then(|next| (next - now).to_std().ok());
            wait_time = wait_time.min(next.unwrap_or(SCHEDULE_POLL_INTERVAL));
            let ticks = due_ticks(&cron, stored.done_until, now);
            if !ticks.is_empty() {
                all_due.push(DueTicks { stored, ticks });
            }
        }
        if !all_due.is_empty() {
            self.enqueue_ticks_fenced(lease, all_due).await?;
        }
        Ok(wait_time)
    }

    async fn enqueue_ticks_fenced(&self, lease: &Arc<Lease>, all_due: Vec<DueTicks>) -> Result<()> {
        store::transaction("enqueue_ticks", (self.tasks.clone(), lease.clone(), all_due))
            .run(&self.tasks.pool, |connection, (tasks, lease, all_due)| {
                Box::pin(async move {
                    lease.fence(connection).await?;
                    enqueue_ticks_in_tx(connection, tasks, all_due).await
                })
            })
            .await
    }
}

async fn enqueue_ticks_in_tx(
    connection: &mut PgConnection,
    tasks: &TaskStore,
    all_due: &[DueTicks],
) -> Result<()> {
    for DueTicks { stored, ticks } in all_due {
        let name = &stored.definition.name;
        let Some(last) = ticks.last() else { continue };
        // Changed or deleted since it was read: left to the next poll.
        if !advance_done_until_in_tx(connection, name, stored.done_until, *last).await? {
            continue;
        }
        for tick in ticks {
            tasks.enqueue_in_tx(connection, &new_tick_task(stored, *tick)).await?;
        }
    }
    store::fail_point("ticks_enqueued");
    Ok(())
}

fn new_tick_task(stored: &StoredSchedule, tick: DateTime<Utc>) -> NewTask {
    NewTask {
        task_type: stored.definition.task_type.clone(),
        params: Json::Object(stored.definition.params.clone()),
        key: None,
        tick: Some(ScheduleTick { schedule: stored.definition.name.clone(), at: tick }),
    }
}

/// Waits until schedules have changed, or may have.
async fn wait_for_schedule_change(notifications: &mut Receiver<PgNotification>) {
    loop {
        match notifications.recv().await {
            Ok(PgNotification::Received { channel, .. }) if channel != SCHEDULES_CHANNEL => {}
            Ok(_) | Err(RecvError::Lagged(_)) => return,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}
