//! Background tasks in this process: the scheduler or its standby, workers, and what enqueues.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use queue::fifo::FifoEngine;
use sqlx::PgPool;
use store::{LeaseTerms, Work, do_duties};
use tasks::schedule::Scheduler;
use tasks::{Handlers, Tasks, WorkerTerms};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::queues::FifoQueues;
use super::rooms::Running;
use crate::settings::{Role, Settings};
use crate::tasks::{TASK_TYPES, handlers};

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
    pool: &PgPool,
    process: &Running,
    fifo: &FifoQueues,
    stop: &CancellationToken,
) -> anyhow::Result<Background> {
    if fifo.makes_queues {
        tasks::ensure_queues(fifo.tasks.as_ref()).await.context("the queue of tasks")?;
    }
    let tasks = Tasks::new(pool.clone(), TASK_TYPES.into(), fifo.tasks_sender.clone());
    let mut running = JoinSet::new();
    fifo.relay(pool, &process.notifications, &mut running, stop);
    if settings.roles.contains(&Role::Scheduler) {
        let scheduler = Scheduler {
            tasks: tasks.clone(),
            notifications: process.notifications.clone(),
            retention: settings.task_retention,
        };
        let work: Work = Arc::new(move |lease| Box::pin(scheduler.clone().run(lease)));
        let duties = HashMap::from([(SCHEDULER, work)]);
        running.spawn(do_duties(pool.clone(), LeaseTerms::default(), duties, stop.clone()));
    }
    if settings.roles.contains(&Role::Tasks) {
        let mut terms = WorkerTerms::default();
        // What is not done by then is given back: others have it at once.
        terms.consumer.grace = settings.shutdown_timeout * 2 / 3;
        let handlers = handlers(&process.ledger, settings.ledger_retention);
        running.spawn(work(fifo.tasks.clone(), tasks.clone(), handlers, terms, stop.clone()));
    }
    Ok(Background { tasks, running })
}

/// Works as soon as the queue is there: the engine may be away for now.
async fn work(
    engine: Arc<dyn FifoEngine>,
    tasks: Tasks,
    handlers: Handlers,
    terms: WorkerTerms,
    stop: CancellationToken,
) {
    let queues = async {
        loop {
            match tasks::ensure_queues(engine.as_ref()).await {
                Ok(queues) => return queues,
                Err(error) => {
                    tracing::warn!(%error, code = "UNAVAILABLE", "the queue of tasks is waited for");
                    sleep(QUEUE_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        queues = queues => tasks::work(queues, tasks, handlers, terms, stop.clone()).await,
    }
}

impl Background {
    /// Waits until everything has ended that has been stopping since the signal.
    pub(super) async fn ended(self, within: Duration) {
        super::ended(self.running, within).await;
    }
}
