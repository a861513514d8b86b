//! The scheduler: a task for each tick.
//!
//! One look a second while nothing is due. What is due is enqueued in the transaction that moves `done_until` from where it
//! was read, under the duty's lease: whoever else believes to be the scheduler changes nothing.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use store::{Error, Lease, Notifications, Notify, Result};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout};

use super::stored::{CHANNEL, done_in_tx, read};
use super::{Cron, Stored, due};
use crate::{NewTask, Tasks, Tick, forget};

/// How long a changed schedule may go unnoticed when its notification was lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The time between looks for tasks to forget.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// Enqueues scheduled tasks.
#[derive(Clone)]
pub struct Scheduler {
    /// Where to.
    pub tasks: Tasks,
    /// Must listen on [`CHANNEL`].
    pub notifications: Notifications,
    /// Tasks that ended so long ago are forgotten.
    pub retention: Duration,
}

/// The ticks of one schedule that are due.
struct Due {
    stored: Stored,
    ticks: Vec<DateTime<Utc>>,
}

impl Scheduler {
    /// Schedules until the lease is lost or the database does not answer.
    pub async fn run(self, lease: Arc<Lease>) {
        let mut heard = self.notifications.subscribe();
        let mut forgotten: Option<Instant> = None;
        loop {
            let pause = match self.step(&lease).await {
                Ok(pause) => pause,
                Err(Error::Fenced { .. }) => return,
                Err(error) => {
                    tracing::warn!(%error, code = "UNAVAILABLE", "scheduled tasks not enqueued");
                    return;
                }
            };
            if forgotten.is_none_or(|last| last.elapsed() > FORGET_EVERY) {
                let pass = forget(&self.tasks.pool, self.retention).await;
                // Until nothing is left to be forgotten, at each look.
                forgotten = Some(Instant::now()).filter(|_| !matches!(&pass, Ok(pass) if pass.more));
                if let Err(error) = pass {
                    tracing::warn!(%error, code = "UNAVAILABLE", "old tasks not forgotten");
                }
            }
            let _ = timeout(pause, told(&mut heard)).await;
        }
    }

    /// Enqueues what is due; how long until something may be due again.
    pub async fn step(&self, lease: &Arc<Lease>) -> Result<Duration> {
        let read = store::run(&self.tasks.pool, "read_schedules", |connection| Box::pin(read(connection)));
        let (stored, now) = read.await?;
        let mut pause = LOOK_EVERY;
        let mut all_due = Vec::new();
        for stored in stored {
            let Ok(cron) = Cron::parse(&stored.scheduled.schedule) else {
                // Checked when it was written, by another version.
                let name = stored.scheduled.name;
                tracing::error!(
                    schedule = name,
                    code = "CONSISTENCY_ERROR",
                    "a stored schedule is no cron expression"
                );
                continue;
            };
            let next = cron.next(now).and_then(|next| (next - now).to_std().ok());
            pause = pause.min(next.unwrap_or(LOOK_EVERY));
            let ticks = due(&cron, stored.done_until, now);
            if !ticks.is_empty() {
                all_due.push(Due { stored, ticks });
            }
        }
        if !all_due.is_empty() {
            self.enqueue(lease, all_due).await?;
        }
        Ok(pause)
    }

    async fn enqueue(&self, lease: &Arc<Lease>, all_due: Vec<Due>) -> Result<()> {
        let (tasks, lease, all_due) = (self.tasks.clone(), lease.clone(), Arc::new(all_due));
        store::run_tx(&self.tasks.pool, "enqueue_ticks", move |connection| {
            let (tasks, lease, all_due) = (tasks.clone(), lease.clone(), all_due.clone());
            Box::pin(async move {
                lease.fence(connection).await?;
                for Due { stored, ticks } in all_due.iter() {
                    let name = &stored.scheduled.name;
                    let Some(last) = ticks.last() else { continue };
                    // Changed or deleted since it was read: the next look decides.
                    if !done_in_tx(connection, name, stored.done_until, *last).await? {
                        continue;
                    }
                    for tick in ticks {
                        tasks.enqueue_in_tx(connection, &task(stored, *tick)).await?;
                    }
                }
                store::fail_point("ticks_enqueued");
                Ok(())
            })
        })
        .await
    }
}

fn task(stored: &Stored, tick: DateTime<Utc>) -> NewTask {
    NewTask {
        task_type: stored.scheduled.task_type.clone(),
        params: Json::Object(stored.scheduled.params.clone()),
        key: None,
        tick: Some(Tick { schedule: stored.scheduled.name.clone(), at: tick }),
    }
}

/// Returns when schedules have changed, or may have.
async fn told(heard: &mut Receiver<Notify>) {
    loop {
        match heard.recv().await {
            Ok(Notify::Heard { channel, .. }) if channel != CHANNEL => {}
            Ok(_) | Err(RecvError::Lagged(_)) => return,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}
