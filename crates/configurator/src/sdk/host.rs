//! Where an integration runs: which queues, which memory; and its life.

use std::sync::Arc;
use std::time::Duration;

use queue::fifo::{ConsumerTerms, FifoEngine, FifoQueue, Queues, consume};
use tokio_util::sync::CancellationToken;

use super::memory::{InMemory, Memory};
use super::worker::Worker;
use super::{Env, Handlers};
use crate::protocol::ANSWERS;
use crate::queues::{OptionalQueue, opened};

/// How an integration works.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Tasks in work at a time.
    pub concurrency: usize,
    /// How long a task stays with a dead process; extended three times as often while a handler works.
    pub visibility: Duration,
    /// How soon a task comes again after a temporary error; each time later, up to a minute.
    pub again: Duration,
    /// How long what is in work may take once the integration is told to stop; then it is given back.
    pub grace: Duration,
    /// The queue of answers, without environment and ending.
    pub answers: String,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            concurrency: 64,
            visibility: Duration::from_secs(30),
            again: Duration::from_secs(1),
            grace: Duration::from_secs(20),
            answers: ANSWERS.to_owned(),
        }
    }
}

/// Where an integration runs.
#[derive(Clone)]
pub struct Host {
    engine: Arc<dyn FifoEngine>,
    memory: Arc<dyn Memory>,
    terms: Terms,
}

impl Host {
    /// With the queues of this engine. Answers are remembered in memory, unless something else is said.
    pub fn new(engine: Arc<dyn FifoEngine>) -> Self {
        Self { engine, memory: Arc::new(InMemory::default()), terms: Terms::default() }
    }

    /// Remembering elsewhere.
    pub fn remembering(mut self, memory: Arc<dyn Memory>) -> Self {
        self.memory = memory;
        self
    }

    /// Working otherwise.
    pub fn working(mut self, terms: Terms) -> Self {
        self.terms = terms;
        self
    }

    /// Carries out the tasks of `queue` (without environment and ending) until `stop`. A queue that is not there yet is
    /// waited for.
    pub async fn run(self, handlers: Handlers, queue: &str, env: Env, stop: CancellationToken) {
        let (tasks, dead) = (env.queue(queue), env.dead_letters(queue));
        let engine = self.engine.as_ref();
        let both = async {
            let queue = opened(engine, &tasks).await;
            (queue, opened(engine, &env.queue(&self.terms.answers)).await)
        };
        let (queue, answers) = tokio::select! {
            () = stop.cancelled() => return,
            both = both => both,
        };
        let dead_letters: Arc<dyn FifoQueue> = Arc::new(OptionalQueue::new(self.engine.clone(), dead));
        let (memory, again) = (self.memory, self.terms.again);
        let worker =
            Worker { handlers, memory, queue: tasks, answers, again, outage: store::Outage::default() };
        let terms = ConsumerTerms {
            concurrency: self.terms.concurrency,
            visibility: self.terms.visibility,
            grace: self.terms.grace,
        };
        consume(Queues { queue, dead_letters }, Arc::new(worker), terms, stop).await;
    }

    /// The same for several environments at once.
    pub async fn run_in(self, handlers: Handlers, queue: &str, envs: &[Env], stop: CancellationToken) {
        let running = envs.iter().map(|env| self.clone().run(handlers.clone(), queue, *env, stop.clone()));
        futures::future::join_all(running).await;
    }
}
