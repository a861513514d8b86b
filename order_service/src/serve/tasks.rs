//! Background tasks in this process: the scheduler or its standby, workers, and what enqueues.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use events::{Events, StatusReporter};
use queue::fifo::FifoEngine;
use sqlx::PgPool;
use store::{LeaseTerms, Outage, Work, do_duties};
use tasks::schedule::Scheduler;
use tasks::{ActionTerms, ActionWorker, Desk, Tasks, WorkerTerms};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::database::Database;
use super::queues::FifoQueues;
use super::rooms::Running;
use crate::settings::{Role, Settings};
use crate::tasks::{Means, TASK_TYPES, handlers};

/// The duty of whoever schedules.
const SCHEDULER: &str = "scheduler";

/// The pause until the queue of tasks is asked for again.
const QUEUE_PAUSE: Duration = Duration::from_secs(2);

/// What runs, and what enqueues.
pub(super) struct Background {
    /// For the API.
    pub(super) tasks: Tasks,
    running: JoinSet<()>,
}

/// Starts what the roles ask for; it ends after `stop`.
pub(super) async fn start(
    settings: &Settings,
    database: &Database,
    process: &Running,
    events: &Events,
    fifo: &FifoQueues,
    stop: &CancellationToken,
) -> anyhow::Result<Background> {
    let pool = &database.pool;
    if fifo.makes_queues {
        tasks::ensure_queues(fifo.tasks.as_ref()).await.context("the queue of tasks")?;
    }
    let tasks = Tasks::new(pool.clone(), TASK_TYPES.into(), fifo.tasks_sender.clone())
        .renewing_on(database.leases.clone());
    let mut running = JoinSet::new();
    fifo.relay(pool, &process.notifications, &mut running, stop);
    let mut duties: HashMap<&'static str, Work> = HashMap::new();
    if settings.roles.contains(&Role::Scheduler) {
        let scheduler = Scheduler {
            tasks: tasks.clone(),
            notifications: process.notifications.clone(),
            retention: settings.task_retention,
        };
        let work: Work = Arc::new(move |lease| Box::pin(scheduler.clone().run(lease)));
        duties.insert(SCHEDULER, work);
    }
    if settings.roles.contains(&Role::Tasks) {
        duties.extend(super::events::duties(&settings.events, events, pool));
        let desk = desk(settings, pool, process, events, fifo, &tasks, stop);
        let started = ActionWorker::start(desk.clone(), &process.notifications, ActionTerms::default());
        let actions = started.await.context("the queue of actions' tasks")?;
        let (stopped, grace) = (stop.clone(), settings.shutdown_timeout * 2 / 3);
        running.spawn(async move {
            stopped.cancelled().await;
            actions.stop(grace).await;
        });
        let mut terms = WorkerTerms::default();
        // What is not done by then is given back: others have it at once.
        terms.consumer.grace = settings.shutdown_timeout * 2 / 3;
        running.spawn(work(fifo.tasks.clone(), desk, terms, stop.clone()));
    }
    running.spawn(do_duties(database.leases.clone(), LeaseTerms::default(), duties, stop.clone()));
    Ok(Background { tasks, running })
}

/// Works as soon as the queue is there: the engine may be away for now.
async fn work(engine: Arc<dyn FifoEngine>, desk: Desk, terms: WorkerTerms, stop: CancellationToken) {
    let outage = Outage::default();
    let queues = async {
        loop {
            match tasks::ensure_queues(engine.as_ref()).await {
                Ok(queues) => {
                    outage.worked(|lasted| {
                        tracing::info!(seconds = lasted.as_secs(), "the queue of tasks is there")
                    });
                    return queues;
                }
                Err(error) => {
                    outage.failed(|failures| {
                        tracing::warn!(%error, failures, code = "UNAVAILABLE", "the queue of tasks is waited for");
                    });
                    sleep(QUEUE_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        queues = queues => tasks::work(queues, desk, terms, stop.clone()).await,
    }
}

/// What the workers need.
fn desk(
    settings: &Settings,
    pool: &PgPool,
    process: &Running,
    events: &Events,
    fifo: &FifoQueues,
    tasks: &Tasks,
    stop: &CancellationToken,
) -> Desk {
    let means = Means {
        ledger: process.ledger.clone(),
        retention: settings.ledger_retention,
        orders: Arc::new(process.rooms.clone()),
        runs: Arc::new(super::configurator::of(&settings.queues, pool, &process.notifications, fifo)),
        events: events.clone(),
        webhooks: super::events::webhooks(&settings.events),
    };
    Desk {
        tasks: tasks.clone(),
        handlers: handlers(means),
        reporter: Arc::new(StatusReporter(events.clone())),
        running: tasks::Running::start(pool.clone(), &process.notifications, stop.clone()),
    }
}

impl Background {
    /// Waits until everything has ended that has been stopping since the signal.
    pub(super) async fn ended(self, within: Duration) {
        super::ended(self.running, within).await;
    }
}
