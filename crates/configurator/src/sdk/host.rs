//! The worker of an integration: its queues, its store, its lifetime.

use std::sync::Arc;
use std::time::Duration;

use queue::fifo::{FifoConsumerOptions, FifoEngine, FifoQueue, FifoQueuePair, consume_messages};
use tokio_util::sync::CancellationToken;

use super::consumer::IntegrationConsumer;
use super::memory::{InMemoryIntegrationStore, IntegrationStore};
use super::{Env, IntegrationHandlers};
use crate::protocol::DEFAULT_ANSWER_QUEUE;
use crate::queues::{OptionalDeadLetterQueue, wait_for_queue};

/// The options of an integration worker.
#[derive(Debug, Clone)]
pub struct IntegrationOptions {
    /// Maximum tasks in progress.
    pub concurrency: usize,
    /// How long a task of a dead process stays invisible. While a handler works, it is extended
    /// after every third of it.
    pub visibility_timeout: Duration,
    /// First redelivery delay after a temporary error; grows up to a minute.
    pub retry_delay: Duration,
    /// How long tasks in progress may take at shutdown; then they are returned to the queue.
    pub shutdown_timeout: Duration,
    /// The queue of answers, without environment and suffix.
    pub answer_queue: String,
}

impl Default for IntegrationOptions {
    fn default() -> Self {
        Self {
            concurrency: 64,
            visibility_timeout: Duration::from_secs(30),
            retry_delay: Duration::from_secs(1),
            shutdown_timeout: Duration::from_secs(20),
            answer_queue: DEFAULT_ANSWER_QUEUE.to_owned(),
        }
    }
}

/// A worker that runs an integration's handlers on its queues.
#[derive(Clone)]
pub struct IntegrationWorker {
    engine: Arc<dyn FifoEngine>,
    store: Arc<dyn IntegrationStore>,
    options: IntegrationOptions,
}

impl IntegrationWorker {
    /// A worker with the queues of this engine. By default, answers are remembered in memory.
    pub fn new(engine: Arc<dyn FifoEngine>) -> Self {
        Self {
            engine,
            store: Arc::new(InMemoryIntegrationStore::default()),
            options: IntegrationOptions::default(),
        }
    }

    /// Sets the store for answers and for data of the handlers.
    pub fn with_store(mut self, store: Arc<dyn IntegrationStore>) -> Self {
        self.store = store;
        self
    }

    /// Sets the options, in the place of the defaults.
    pub fn with_options(mut self, options: IntegrationOptions) -> Self {
        self.options = options;
        self
    }

    /// Carries out the tasks of `queue` (without environment and suffix) until `stop`. Waits for
    /// queues that do not exist yet.
    pub async fn run(
        self,
        handlers: IntegrationHandlers,
        queue: &str,
        env: Env,
        stop: CancellationToken,
    ) {
        let (tasks, dead) = (env.queue_name(queue), env.dead_letter_queue_name(queue));
        let engine = self.engine.as_ref();
        let both = async {
            let queue = wait_for_queue(engine, &tasks).await;
            (queue, wait_for_queue(engine, &env.queue_name(&self.options.answer_queue)).await)
        };
        let (queue, answers) = tokio::select! {
            () = stop.cancelled() => return,
            both = both => both,
        };
        let dead_letters: Arc<dyn FifoQueue> =
            Arc::new(OptionalDeadLetterQueue::new(self.engine.clone(), dead));
        let (memory, again) = (self.store, self.options.retry_delay);
        let worker = IntegrationConsumer {
            handlers,
            store: memory,
            queue: tasks,
            answer_queue: answers,
            retry_delay: again,
            outage: store::Outage::default(),
        };
        let options = FifoConsumerOptions {
            concurrency: self.options.concurrency,
            visibility_timeout: self.options.visibility_timeout,
            shutdown_timeout: self.options.shutdown_timeout,
        };
        consume_messages(FifoQueuePair { queue, dead_letters }, Arc::new(worker), options, stop)
            .await;
    }

    /// Runs concurrently in several environments until `stop`.
    pub async fn run_in_envs(
        self,
        handlers: IntegrationHandlers,
        queue: &str,
        envs: &[Env],
        stop: CancellationToken,
    ) {
        let runs =
            envs.iter().map(|env| self.clone().run(handlers.clone(), queue, *env, stop.clone()));
        futures::future::join_all(runs).await;
    }
}
