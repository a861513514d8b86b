//! Background tasks in this process: the scheduler or its standby, workers, and what enqueues.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use queue::fifo::PostgresFifo;
use sqlx::PgPool;
use store::{LeaseTerms, Work, do_duties};
use tasks::schedule::Scheduler;
use tasks::{Tasks, WorkerTerms};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::rooms::Running;
use crate::settings::{Role, Settings};
use crate::tasks::{TASK_TYPES, handlers};

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
    stop: &CancellationToken,
) -> anyhow::Result<Background> {
    let engine = PostgresFifo::new(pool.clone(), process.notifications.clone());
    let queues = tasks::ensure_queues(&engine).await.context("the queue of tasks")?;
    let tasks = Tasks::new(pool.clone(), TASK_TYPES.into(), Arc::new(engine));
    let mut running = JoinSet::new();
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
        running.spawn(tasks::work(queues, tasks.clone(), handlers, terms, stop.clone()));
    }
    Ok(Background { tasks, running })
}

impl Background {
    /// Waits until everything has ended that has been stopping since the signal.
    pub(super) async fn ended(mut self, within: Duration) {
        let _ = timeout(within, async { while self.running.join_next().await.is_some() {} }).await;
    }
}
