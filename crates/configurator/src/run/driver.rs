//! The driver of a process (role `configurator`): advances the runs of all instances.
//!
//! - Shape: one task per instance with a running run. It caches the run in memory, and waits for
//!   answers or the next deadline.
//! - Cost: a poll for due instances every second, and the steps of the instances driven here.
//! - Lock order: see [`step`](super::step). Any process may drive any instance: the first to lock
//!   the row wins. Others find the row locked, or their cached version outdated.
//! - Promise: work that is overdue for half a second is taken over by any process that polls.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::Utc;
use queue::fifo::FifoTxSender;
use sqlx::PgPool;
use store::{
    LONG_OPERATION_TIMEOUT, Outage, PgNotification as Heard, PgNotificationHub, PgOperation,
};
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::load::load_instance;
use super::step::{RunStepOptions, RunStepResult, step_instance};
use crate::ids::InstanceId;
use crate::template::Env;

/// Notification channel of runs. Payload `+7`: instance 7 has a run to begin or resume; `7`: an
/// answer for instance 7 was committed; `=5`: run 5 has ended.
pub const RUNS_CHANNEL: &str = "configurator";
/// Interval of the poll for due instances, in case a notification is lost.
const DUE_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Instances overdue by this long are taken over from other drivers.
const OVERDUE_TIMEOUT: Duration = Duration::from_millis(500);
/// No block times out this soon after the start: its answer may still be in the queue.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(3);
/// Pause after a database error.
const DATABASE_RETRY_INTERVAL: Duration = Duration::from_millis(300);
/// Pause while another transaction holds the instance's row lock.
const BUSY_RETRY_INTERVAL: Duration = Duration::from_millis(20);
/// Maximum wait for the next deadline, as clocks differ.
const MAX_DEADLINE_WAIT: Duration = Duration::from_secs(30);
/// Maximum rows per delete statement.
const MAX_FORGOTTEN_PER_BATCH: i64 = 100;

/// Drives the runs of all instances; clones share the state.
#[derive(Clone)]
pub struct RunDriver {
    pool: PgPool,
    senders: HashMap<Env, Arc<dyn FifoTxSender>>,
    block_timeout: Duration,
    started_at: Instant,
    /// Identifies this process in `configurator_instances.driver`.
    driver_id: Uuid,
    /// Instances driven by this process, each with its wakeup.
    active_instances: Arc<Mutex<HashMap<InstanceId, Arc<Notify>>>>,
    /// Outage of the database, shared by all instances.
    outage: Arc<Outage>,
}

impl RunDriver {
    /// A driver that sends through these senders. Environments without a sender are not driven.
    pub fn new(
        pool: PgPool,
        senders: HashMap<Env, Arc<dyn FifoTxSender>>,
        block_timeout: Duration,
    ) -> Self {
        Self {
            pool,
            senders,
            block_timeout,
            started_at: Instant::now(),
            driver_id: Uuid::new_v4(),
            active_instances: Arc::default(),
            outage: Arc::default(),
        }
    }

    /// Drives until `stop`, and completes the steps in progress. `notifications`
    /// must listen on [`RUNS_CHANNEL`].
    pub async fn run(self, notifications: PgNotificationHub, stop: CancellationToken) {
        let mut heard = notifications.subscribe();
        let mut look = interval(DUE_POLL_INTERVAL);
        let (mut tasks, mut left_undone) = (JoinSet::new(), Duration::ZERO);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = look.tick() => {
                    for (instance_id, env) in self.load_due_instances(left_undone).await {
                        self.spawn_instance(instance_id, env, &mut tasks, &stop);
                    }
                    left_undone = OVERDUE_TIMEOUT;
                }
                told = heard.recv() => match told {
                    Ok(Heard::Received { channel, payload }) if channel == RUNS_CHANNEL => {
                        self.handle_notification(&payload, &mut tasks, &stop).await;
                    }
                    Ok(Heard::Received { .. }) => {}
                    Ok(Heard::Missed) | Err(RecvError::Lagged(_)) => self.wake_all_instances(),
                    Err(RecvError::Closed) => break,
                },
                Some(_) = tasks.join_next() => {}
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    async fn handle_notification(
        &self,
        payload: &str,
        tasks: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) {
        if let Some(new) = payload.strip_prefix('+') {
            let Ok(instance_id) = new.parse() else { return };
            if !self.wake_instance(instance_id)
                && let Some(env) = self.load_env(instance_id).await
            {
                self.spawn_instance(instance_id, env, tasks, stop);
            }
        } else if let Ok(instance_id) = payload.parse() {
            // A driver in another process gets the same notification.
            self.wake_instance(instance_id);
        }
    }

    fn lock_active(&self) -> std::sync::MutexGuard<'_, HashMap<InstanceId, Arc<Notify>>> {
        self.active_instances.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the instance's task; `false` if this process does not drive it.
    fn wake_instance(&self, instance_id: InstanceId) -> bool {
        let woken = self.lock_active().get(&instance_id).cloned();
        woken.as_ref().inspect(|woken| woken.notify_one()).is_some()
    }

    fn wake_all_instances(&self) {
        self.lock_active().values().for_each(|woken| woken.notify_one());
    }

    fn spawn_instance(
        &self,
        instance_id: InstanceId,
        env: Env,
        tasks: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) {
        let Some(sender) = self.senders.get(&env).cloned() else { return };
        let woken = Arc::new(Notify::new());
        if self.lock_active().contains_key(&instance_id) {
            self.wake_instance(instance_id);
            return;
        }
        self.lock_active().insert(instance_id, woken.clone());
        let (driver, stop) = (self.clone(), stop.clone());
        tasks.spawn(async move {
            // After a panic, the next poll for due instances starts the task again.
            if store::panics::catch_panic(driver.drive_instance(instance_id, sender, &woken, &stop))
                .await
                .is_err()
            {
                tracing::error!(
                    instance_id = instance_id.get(),
                    code = "LOGIC_ERROR",
                    "the driver of a run panicked"
                );
            }
            driver.lock_active().remove(&instance_id);
        });
    }

    async fn load_env(&self, instance_id: InstanceId) -> Option<Env> {
        let env: store::Result<Option<String>> = store::statement(
            "instance_env",
            "SELECT env FROM configurator_instances WHERE instance_id = $1",
        )
        .bind(instance_id)
        .fetch_optional_value(&self.pool)
        .await;
        env.ok().flatten()?.parse().ok()
    }

    /// Instances that have been due for at least `overdue_by`.
    async fn load_due_instances(&self, overdue_by: Duration) -> Vec<(InstanceId, Env)> {
        let due: store::Result<Vec<(InstanceId, String)>> =
            store::statement("configurator_due", DUE_INSTANCES_SQL)
                .bind(overdue_by.as_secs_f64())
                .fetch_all(&self.pool)
                .await;
        match due {
            Ok(due) => {
                self.outage.record_success(|lasted| {
                    tracing::info!(seconds = lasted.as_secs(), "runs are carried on again");
                });
                due.into_iter().filter_map(|(id, env)| Some((id, env.parse().ok()?))).collect()
            }
            Err(error) => {
                self.note_failure(None, &error);
                Vec::new()
            }
        }
    }

    fn note_failure(&self, instance_id: Option<InstanceId>, error: &store::Error) {
        self.outage.record_failure(|failures| {
            let instance_id = instance_id.map(InstanceId::get);
            tracing::warn!(instance_id, %error, failures, code = "UNAVAILABLE", "runs cannot be carried on; it is tried again");
        });
    }

    /// Drives one instance until its run has ended or another driver takes it over.
    async fn drive_instance(
        &self,
        instance_id: InstanceId,
        sender: Arc<dyn FifoTxSender>,
        woken: &Notify,
        stop: &CancellationToken,
    ) {
        let mut loaded = None;
        while !stop.is_cancelled() {
            let may_time_out = self.started_at.elapsed() > STARTUP_TIMEOUT;
            let options = RunStepOptions {
                pool: self.pool.clone(),
                sender: sender.clone(),
                may_time_out,
                driver_id: self.driver_id,
            };
            let snapshot = match loaded.take() {
                Some(snapshot) => snapshot,
                None => match load_instance(&self.pool, instance_id, self.block_timeout).await {
                    Ok(snapshot) => snapshot,
                    Err(error) => {
                        self.note_failure(Some(instance_id), &error);
                        sleep(DATABASE_RETRY_INTERVAL).await;
                        continue;
                    }
                },
            };
            match step_instance(&options, instance_id, snapshot).await {
                // Locked by a cancel, for example, or by another driver: then the
                // next step finds out.
                Ok(RunStepResult::Busy(snapshot)) => {
                    loaded = Some(*snapshot);
                    sleep(BUSY_RETRY_INTERVAL).await;
                }
                Ok(RunStepResult::TakenOver) => return,
                Ok(RunStepResult::Reload) => {}
                Ok(RunStepResult::Done(follow_up)) => {
                    if let Some(status) = follow_up.ended_status {
                        metrics::counter!("configurator_runs_total", "status" => status.name())
                            .increment(1);
                    }
                    let goes_on = follow_up.run.is_some();
                    loaded = Some(super::load::InstanceSnapshot {
                        version: follow_up.version,
                        run: follow_up.run,
                    });
                    if follow_up.has_more {
                        continue;
                    }
                    if !goes_on {
                        return;
                    }
                    let wait =
                        follow_up.wake_at.and_then(|wake_at| (wake_at - Utc::now()).to_std().ok());
                    // The database's clock may differ, and no block times out
                    // right after the start.
                    let max_wait = if may_time_out { MAX_DEADLINE_WAIT } else { STARTUP_TIMEOUT };
                    let wait = wait
                        .map_or(DATABASE_RETRY_INTERVAL, |wait| wait + Duration::from_millis(20))
                        .min(max_wait);
                    tokio::select! {
                        () = stop.cancelled() => return,
                        _ = timeout(wait, woken.notified()) => {}
                    }
                }
                Err(error) => {
                    self.note_failure(Some(instance_id), &error);
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = sleep(DATABASE_RETRY_INTERVAL) => {}
                    }
                }
            }
        }
    }
}

/// Deletes runs that ended longer than `older_than` ago, except the latest run of each instance,
/// and tombstones of the same age. Also deletes remembered answers of integrations after 14 days.
/// Works in batches until none are left. Returns the number of deleted runs.
pub async fn forget_old_runs(pool: &PgPool, older_than: Duration) -> store::Result<u64> {
    forget_in_batches(pool, "forget_integration_answers", FORGET_ANSWERS_SQL, 14.0 * 86_400.0)
        .await?;
    let runs =
        forget_in_batches(pool, "forget_runs", FORGET_RUNS_SQL, older_than.as_secs_f64()).await?;
    forget_in_batches(pool, "forget_gone_blocks", FORGET_GONE_BLOCKS_SQL, older_than.as_secs_f64())
        .await?;
    Ok(runs)
}

async fn forget_in_batches(
    pool: &PgPool,
    name: &'static str,
    sql: &'static str,
    seconds: f64,
) -> store::Result<u64> {
    let operation = PgOperation::named(name).with_timeout(LONG_OPERATION_TIMEOUT);
    let statement = store::statement(operation, sql).bind(seconds).bind(MAX_FORGOTTEN_PER_BATCH);
    let mut forgotten = 0;
    loop {
        let batch_count = statement.clone().execute(pool).await?;
        forgotten += batch_count;
        if batch_count < MAX_FORGOTTEN_PER_BATCH.unsigned_abs() {
            return Ok(forgotten);
        }
    }
}

const DUE_INSTANCES_SQL: &str = "SELECT i.instance_id, i.env FROM configurator_instances i WHERE i.wake_at <= now() - make_interval(secs => $1)
UNION
SELECT i.instance_id, i.env FROM configurator_instances i
WHERE i.instance_id IN (SELECT instance_id FROM configurator_answers WHERE received_at <= now() - make_interval(secs => $1))";

const FORGET_ANSWERS_SQL: &str = "DELETE FROM integration_answers WHERE (queue, block_id) IN (
    SELECT queue, block_id FROM integration_answers WHERE answered_at < now() - make_interval(secs => $1)
    ORDER BY answered_at LIMIT $2
)";

const FORGET_RUNS_SQL: &str = "DELETE FROM configurator_runs r WHERE r.run_id IN (
    SELECT o.run_id FROM configurator_runs o
    WHERE o.ended_at < now() - make_interval(secs => $1)
      AND EXISTS (SELECT FROM configurator_runs n WHERE n.instance_id = o.instance_id AND n.run_id > o.run_id)
    ORDER BY o.ended_at LIMIT $2
)";

/// A tombstone stays as long as a run from before it exists: a late answer to that run is possible.
const FORGET_GONE_BLOCKS_SQL: &str = "DELETE FROM configurator_gone WHERE (instance_id, name, integration) IN (
    SELECT g.instance_id, g.name, g.integration FROM configurator_gone g
    WHERE g.gone_at < now() - make_interval(secs => $1)
      AND NOT EXISTS (SELECT FROM configurator_runs r WHERE r.instance_id = g.instance_id AND r.created_at <= g.gone_at)
    ORDER BY g.gone_at LIMIT $2
)";
