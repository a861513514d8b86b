//! The FIFO queues that the settings name: engines, and what sends to them within transactions.

use std::collections::HashMap;
use std::sync::Arc;

use configurator::template::Env;
use futures::future::BoxFuture;
use queue::fifo::{FifoEngine, Outbox, PostgresFifo, Refusals, RefusedMessage, SendInTx, relay};
use sqlx::PgPool;
use store::Notifications;
use tasks::Tasks;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::settings::QueueEngine;
use crate::tasks::TASK_TYPES;

/// Where what belongs to no environment has its queues.
const DEFAULT: &str = "default";

/// The queues of a process.
pub struct FifoQueues {
    /// By environment.
    pub engines: HashMap<Env, Arc<dyn FifoEngine>>,
    /// By environment.
    pub senders: HashMap<Env, Arc<dyn SendInTx>>,
    /// For background tasks.
    pub tasks: Arc<dyn FifoEngine>,
    /// For background tasks.
    pub tasks_sender: Arc<dyn SendInTx>,
    /// Whether queues are made as soon as they are needed.
    pub makes_queues: bool,
    /// What the outbox is for.
    outside: HashMap<String, Arc<dyn FifoEngine>>,
}

/// Opens them; nothing is connected yet. `notifications` must listen on the channels of queues and of the outbox.
pub async fn open(settings: &QueueEngine, pool: &PgPool, notifications: &Notifications) -> FifoQueues {
    match settings {
        QueueEngine::Postgres => in_postgres(pool, notifications),
        QueueEngine::Sqs(accounts) => {
            let tasks: Arc<dyn FifoEngine> = accounts.open(&accounts.default).await;
            let sender = |place: &str| Arc::new(Outbox { place: place.to_owned() }) as Arc<dyn SendInTx>;
            let mut queues = FifoQueues {
                engines: HashMap::new(),
                senders: HashMap::new(),
                tasks: tasks.clone(),
                tasks_sender: sender(DEFAULT),
                makes_queues: false,
                outside: HashMap::from([(DEFAULT.to_owned(), tasks)]),
            };
            for (env, account) in &accounts.envs {
                let engine: Arc<dyn FifoEngine> = accounts.open(account).await;
                queues.outside.insert(env.name().to_owned(), engine.clone());
                queues.engines.insert(*env, engine);
                queues.senders.insert(*env, sender(env.name()));
            }
            queues
        }
    }
}

fn in_postgres(pool: &PgPool, notifications: &Notifications) -> FifoQueues {
    let engine = Arc::new(PostgresFifo::new(pool.clone(), notifications.clone()));
    let of = |env: Env| (env, engine.clone() as Arc<dyn FifoEngine>);
    let sender = |env: Env| (env, engine.clone() as Arc<dyn SendInTx>);
    FifoQueues {
        engines: Env::ALL.into_iter().map(of).collect(),
        senders: Env::ALL.into_iter().map(sender).collect(),
        tasks: engine.clone(),
        tasks_sender: engine.clone(),
        makes_queues: true,
        outside: HashMap::new(),
    }
}

/// Whoever a message is about that no queue takes.
struct Concerned {
    pool: PgPool,
    tasks: Tasks,
}

impl Refusals for Concerned {
    fn refused<'a>(&'a self, refused: &'a RefusedMessage) -> BoxFuture<'a, store::Result<()>> {
        Box::pin(async move {
            if !configurator::answers::refused(&self.pool, refused).await? {
                let reason = format!("its message was refused: {}", refused.error);
                self.tasks.refused(&refused.deduplication, &reason).await?;
            }
            Ok(())
        })
    }
}

impl FifoQueues {
    /// Sends what is in the outbox, if there is one, until `stop`.
    pub fn relay(
        &self,
        pool: &PgPool,
        notifications: &Notifications,
        running: &mut JoinSet<()>,
        stop: &CancellationToken,
    ) {
        if !self.outside.is_empty() {
            let tasks = Tasks::new(pool.clone(), TASK_TYPES.into(), self.tasks_sender.clone());
            let refusals = Arc::new(Concerned { pool: pool.clone(), tasks });
            let (pool, outside) = (pool.clone(), self.outside.clone());
            running.spawn(relay(pool, outside, notifications.clone(), refusals, stop.clone()));
        }
    }
}
