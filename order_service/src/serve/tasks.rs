//! Background tasks in this process: scheduler duty, task workers, outbox relay.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use events::{EventStore, StatusEventReporter};
use queue::fifo::FifoEngine;
use sqlx::PgPool;
use store::{DutyWork, LeaseOptions, Outage, run_duties};
use tasks::schedule::TaskScheduler;
use tasks::{ActionWorker, ActionWorkerOptions, TaskExecutor, TaskStore, TaskWorkerOptions};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::database::ControlDatabase;
use super::process::RunningProcess;
use super::queues::FifoQueueSet;
use crate::background::tasks::{TASK_TYPES, TaskHandlerDependencies, build_task_handlers};
use crate::settings::{ProcessRole, ServiceSettings};

/// Name of the scheduler's duty.
const SCHEDULER_DUTY: &str = "scheduler";

/// Retry interval while the task queue cannot be opened.
const QUEUE_RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// The task store and the running workers.
pub(super) struct BackgroundTasks {
    /// Store for the API.
    pub(super) tasks: TaskStore,
    running: JoinSet<()>,
}

/// Starts the parts of this process's roles; they end after `stop`.
pub(super) async fn start_background_tasks(
    settings: &ServiceSettings,
    database: &ControlDatabase,
    process: &RunningProcess,
    events: &EventStore,
    fifo: &FifoQueueSet,
    stop: &CancellationToken,
) -> anyhow::Result<BackgroundTasks> {
    let pool = &database.pool;
    if fifo.creates_queues {
        tasks::ensure_task_queues(fifo.task_engine.as_ref()).await.context("the queue of tasks")?;
    }
    let tasks = TaskStore::new(pool.clone(), TASK_TYPES.into(), fifo.task_sender.clone())
        .with_worker_pools(database.leases.clone(), database.claims.clone());
    let mut running = JoinSet::new();
    fifo.start_outbox_relay(pool, &process.notifications, &mut running, stop);
    let mut duties: HashMap<&'static str, DutyWork> = HashMap::new();
    if settings.roles.contains(&ProcessRole::Scheduler) {
        let scheduler = TaskScheduler {
            tasks: tasks.clone(),
            notifications: process.notifications.clone(),
            retention: settings.task_retention,
        };
        let work: DutyWork = Arc::new(move |lease| Box::pin(scheduler.clone().run(lease)));
        duties.insert(SCHEDULER_DUTY, work);
    }
    if settings.roles.contains(&ProcessRole::Tasks) {
        let event_duties =
            super::events::event_duties(&settings.events, settings.audit_retention, events, pool);
        duties.extend(event_duties);
        let worker_context =
            build_task_worker_context(settings, pool, process, events, fifo, &tasks, stop);
        let started = ActionWorker::start(
            worker_context.clone(),
            &process.notifications,
            ActionWorkerOptions::default(),
        );
        let actions = started.await.context("the queue of actions' tasks")?;
        let (stopped, grace) = (stop.clone(), settings.shutdown_timeout * 2 / 3);
        running.spawn(async move {
            stopped.cancelled().await;
            actions.stop(grace).await;
        });
        let mut options = TaskWorkerOptions::default();
        // Unfinished tasks are then released, so that other workers get them immediately.
        options.consumer.shutdown_timeout = settings.shutdown_timeout * 2 / 3;
        running.spawn(run_task_worker(
            fifo.task_engine.clone(),
            worker_context,
            options,
            stop.clone(),
        ));
    }
    running.spawn(run_duties(
        database.leases.clone(),
        LeaseOptions::default(),
        duties,
        stop.clone(),
    ));
    Ok(BackgroundTasks { tasks, running })
}

/// Opens the task queue, with retries while the engine is unreachable, then runs the worker.
async fn run_task_worker(
    engine: Arc<dyn FifoEngine>,
    worker_context: TaskExecutor,
    options: TaskWorkerOptions,
    stop: CancellationToken,
) {
    let outage = Outage::default();
    let queues = async {
        loop {
            match tasks::ensure_task_queues(engine.as_ref()).await {
                Ok(queues) => {
                    outage.record_success(|lasted| {
                        tracing::info!(seconds = lasted.as_secs(), "the queue of tasks is there")
                    });
                    return queues;
                }
                Err(error) => {
                    outage.record_failure(|failures| {
                        tracing::warn!(%error, failures, code = "UNAVAILABLE", "the queue of tasks is waited for");
                    });
                    sleep(QUEUE_RETRY_INTERVAL).await;
                }
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        queues = queues => tasks::run_task_worker(queues, worker_context, options, stop.clone()).await,
    }
}

/// Executor with all task handlers.
fn build_task_worker_context(
    settings: &ServiceSettings,
    pool: &PgPool,
    process: &RunningProcess,
    events: &EventStore,
    fifo: &FifoQueueSet,
    tasks: &TaskStore,
    stop: &CancellationToken,
) -> TaskExecutor {
    let dependencies = TaskHandlerDependencies {
        ledger: process.ledger.clone(),
        retention: settings.ledger_retention,
        orders: process.api_state.clone(),
        runs: Arc::new(super::configurator::build_configurator(
            &settings.queues,
            pool,
            &process.notifications,
            fifo,
        )),
        events: events.clone(),
        webhooks: super::events::build_webhook_sender(&settings.events),
    };
    TaskExecutor {
        tasks: tasks.clone(),
        handlers: build_task_handlers(&dependencies),
        reporter: Arc::new(StatusEventReporter(events.clone())),
        running: tasks::RunningAttempts::start(pool.clone(), &process.notifications, stop.clone()),
    }
}

impl BackgroundTasks {
    /// Waits until all parts, which have been stopping since the signal, have ended.
    pub(super) async fn join_within(self, within: Duration) {
        super::join_tasks_within(self.running, within).await;
    }
}
