//! Background tasks in this process: the scheduler or its standby, workers, and what enqueues.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use events::{Events, StatusReporter};
use queue::fifo::PostgresFifo;
use sqlx::PgPool;
use store::{LeaseTerms, Work, do_duties};
use tasks::schedule::Scheduler;
use tasks::{ActionTerms, ActionWorker, Desk, Tasks, WorkerTerms};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::rooms::Running;
use crate::events::NoConfigurator;
use crate::settings::{Role, Settings};
use crate::tasks::{Means, TASK_TYPES, handlers};

/// The duty of whoever schedules.
const SCHEDULER: &str = "scheduler";

/// What runs, and what enqueues.
pub(super) struct Background {
    /// For the API.
    pub(super) tasks: Tasks,
    running: JoinSet<()>,
}

/// Starts what the roles ask for; it ends after `stop`.
pub(super) async fn start(
    settings: &Settings,
    pool: &PgPool,
    process: &Running,
    events: &Events,
    stop: &CancellationToken,
) -> anyhow::Result<Background> {
    let engine = PostgresFifo::new(pool.clone(), process.notifications.clone());
    let queues = tasks::ensure_queues(&engine).await.context("the queue of tasks")?;
    let tasks = Tasks::new(pool.clone(), TASK_TYPES.into(), Arc::new(engine));
    let mut running = JoinSet::new();
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
        let desk = desk(settings, pool, process, events, &tasks, stop);
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
        running.spawn(tasks::work(queues, desk, terms, stop.clone()));
    }
    running.spawn(do_duties(pool.clone(), LeaseTerms::default(), duties, stop.clone()));
    Ok(Background { tasks, running })
}

/// What the workers need.
fn desk(
    settings: &Settings,
    pool: &PgPool,
    process: &Running,
    events: &Events,
    tasks: &Tasks,
    stop: &CancellationToken,
) -> Desk {
    let means = Means {
        ledger: process.ledger.clone(),
        retention: settings.ledger_retention,
        orders: Arc::new(process.rooms.clone()),
        runs: Arc::new(NoConfigurator),
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
    pub(super) async fn ended(mut self, within: Duration) {
        let _ = timeout(within, async { while self.running.join_next().await.is_some() {} }).await;
    }
}
