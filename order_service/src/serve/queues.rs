//! FIFO queues of the settings: engines, and senders that enqueue within a transaction.

use std::collections::HashMap;
use std::sync::Arc;

use configurator::template::Env;
use futures::future::BoxFuture;
use queue::fifo::{
    FifoEngine, FifoOutbox, FifoRefusalHandler, FifoTxSender, PgFifo, RefusedMessage,
    run_outbox_relay,
};
use sqlx::PgPool;
use store::PgNotificationHub;
use tasks::TaskStore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::background::tasks::TASK_TYPES;
use crate::settings::QueueEngine;

/// Outbox engine name of messages without an environment.
const DEFAULT_QUEUE_PLACE: &str = "default";

/// FIFO queues of a process.
pub struct FifoQueueSet {
    /// Engine of each environment.
    pub engines: HashMap<Env, Arc<dyn FifoEngine>>,
    /// Transactional sender of each environment.
    pub senders: HashMap<Env, Arc<dyn FifoTxSender>>,
    /// Engine for background tasks.
    pub task_engine: Arc<dyn FifoEngine>,
    /// Transactional sender for background tasks.
    pub task_sender: Arc<dyn FifoTxSender>,
    /// Whether the process creates missing queues itself: only in Postgres.
    pub creates_queues: bool,
    /// Engines of the outbox relay, by engine name; empty without an outbox.
    outbox_engines: HashMap<String, Arc<dyn FifoEngine>>,
}

/// Opens the queues without connecting. `notifications` must listen on the channels of the queues
/// and the outbox.
pub async fn open_fifo_queues(
    settings: &QueueEngine,
    pool: &PgPool,
    notifications: &PgNotificationHub,
) -> FifoQueueSet {
    match settings {
        QueueEngine::Postgres => open_postgres_queues(pool, notifications),
        QueueEngine::Sqs(accounts) => {
            let tasks: Arc<dyn FifoEngine> = accounts.open(&accounts.default).await;
            let mut queues = FifoQueueSet {
                engines: HashMap::new(),
                senders: HashMap::new(),
                task_engine: tasks.clone(),
                task_sender: new_outbox_sender(DEFAULT_QUEUE_PLACE),
                creates_queues: false,
                outbox_engines: HashMap::from([(DEFAULT_QUEUE_PLACE.to_owned(), tasks)]),
            };
            for (env, account) in &accounts.envs {
                let engine: Arc<dyn FifoEngine> = accounts.open(account).await;
                queues.outbox_engines.insert(env.name().to_owned(), engine.clone());
                queues.engines.insert(*env, engine);
                queues.senders.insert(*env, new_outbox_sender(env.name()));
            }
            queues
        }
    }
}

fn new_outbox_sender(place: &str) -> Arc<dyn FifoTxSender> {
    Arc::new(FifoOutbox { engine_name: place.to_owned() })
}

fn open_postgres_queues(pool: &PgPool, notifications: &PgNotificationHub) -> FifoQueueSet {
    let engine = Arc::new(PgFifo::new(pool.clone(), notifications.clone()));
    let mut queues = FifoQueueSet {
        engines: HashMap::new(),
        senders: HashMap::new(),
        task_engine: engine.clone(),
        task_sender: engine.clone(),
        creates_queues: true,
        outbox_engines: HashMap::new(),
    };
    for env in Env::ALL {
        queues.engines.insert(env, engine.clone());
        queues.senders.insert(env, engine.clone());
    }
    queues
}

/// Tells the owner of a message (block or task) that the queue refused it.
struct RefusedMessageHandler {
    pool: PgPool,
    tasks: TaskStore,
}

impl FifoRefusalHandler for RefusedMessageHandler {
    fn handle_refused<'a>(
        &'a self,
        refused: &'a RefusedMessage,
    ) -> BoxFuture<'a, store::Result<()>> {
        Box::pin(async move {
            if !configurator::answers::answer_refused_message(&self.pool, refused).await? {
                let reason = format!("its message was refused: {}", refused.error);
                self.tasks.fail_refused_task(&refused.deduplication_id, &reason).await?;
            }
            Ok(())
        })
    }
}

impl FifoQueueSet {
    /// Starts the outbox relay, if an engine needs one; it runs until `stop`.
    pub fn start_outbox_relay(
        &self,
        pool: &PgPool,
        notifications: &PgNotificationHub,
        running: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) {
        if !self.outbox_engines.is_empty() {
            let tasks = TaskStore::new(pool.clone(), TASK_TYPES.into(), self.task_sender.clone());
            let refusals = Arc::new(RefusedMessageHandler { pool: pool.clone(), tasks });
            let (pool, outside) = (pool.clone(), self.outbox_engines.clone());
            running.spawn(run_outbox_relay(
                pool,
                outside,
                notifications.clone(),
                refusals,
                stop.clone(),
            ));
        }
    }
}
