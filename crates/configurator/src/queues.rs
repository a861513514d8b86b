//! Queues that may not be there (yet).

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use queue::fifo::{
    DeadLetters, FifoEngine, FifoError, FifoQueue, Message, NewMessage, QueueTerms, Receipt, Result, Sent,
};

use store::Outage;

use crate::template::Env;

/// A message that was received so often is a dead letter: its consumers die of it, and it would keep those behind it. At the
/// visibility time-out that is half an hour; after temporary errors the SDK's waits grow, which makes it longer.
pub const MOST_RECEIVES: u32 = 50;
/// Answers are received again and again while the database is away: nobody dies of them.
const MOST_RECEIVES_OF_ANSWERS: u32 = 1000;
/// How long a received message is kept from others unless its receiver says otherwise.
const VISIBILITY: Duration = Duration::from_secs(30);

/// The pause until a queue is looked for again.
const PAUSE: Duration = Duration::from_millis(500);

/// Makes the queue called `queue` in an environment, with its dead letters; their names.
pub async fn ensure(engine: &dyn FifoEngine, queue: &str, env: Env) -> Result<[String; 2]> {
    make(engine, queue, env, MOST_RECEIVES).await
}

/// The same for the queue of answers.
pub async fn ensure_answers(engine: &dyn FifoEngine, queue: &str, env: Env) -> Result<[String; 2]> {
    make(engine, queue, env, MOST_RECEIVES_OF_ANSWERS).await
}

async fn make(engine: &dyn FifoEngine, queue: &str, env: Env, max_receives: u32) -> Result<[String; 2]> {
    let (name, dead) = (env.queue(queue), env.dead_letters(queue));
    engine.ensure(&dead, QueueTerms { visibility: VISIBILITY, dead_letters: None }).await?;
    let dead_letters = Some(DeadLetters { queue: dead.clone(), max_receives });
    engine.ensure(&name, QueueTerms { visibility: VISIBILITY, dead_letters }).await?;
    Ok([name, dead])
}

/// The queue, as soon as it is there.
pub async fn opened(engine: &dyn FifoEngine, name: &str) -> Arc<dyn FifoQueue> {
    let outage = Outage::default();
    loop {
        match engine.open(name).await {
            Ok(queue) => {
                outage.worked(|lasted| {
                    tracing::info!(queue = name, seconds = lasted.as_secs(), "the queue is there");
                });
                return queue;
            }
            Err(error) => {
                outage.failed(|failures| {
                    tracing::warn!(queue = name, %error, failures, code = "UNAVAILABLE", "a queue is waited for");
                });
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Dead letters that need not be kept: if their queue is not there, they are counted and said, and gone.
pub struct OptionalQueue {
    engine: Arc<dyn FifoEngine>,
    name: String,
}

impl OptionalQueue {
    /// The queue of this name.
    pub fn new(engine: Arc<dyn FifoEngine>, name: String) -> Self {
        Self { engine, name }
    }
}

impl FifoQueue for OptionalQueue {
    fn name(&self) -> &str {
        &self.name
    }

    fn send(&self, message: NewMessage) -> BoxFuture<'_, Result<Sent>> {
        Box::pin(async move {
            match self.engine.open(&self.name).await {
                Ok(queue) => queue.send(message).await,
                Err(FifoError::NoQueue(queue)) => {
                    let reason = message.attributes.get(queue::fifo::REASON);
                    tracing::error!(
                        queue,
                        reason,
                        code = "NOT_FOUND",
                        "a dead letter without a queue to keep it is dropped"
                    );
                    Ok(Sent { id: message.deduplication, sequence: 0 })
                }
                Err(error) => Err(error),
            }
        })
    }

    fn receive(&self, _: usize, _: Duration, _: Option<Duration>) -> BoxFuture<'_, Result<Vec<Message>>> {
        Box::pin(std::future::ready(Err(FifoError::Invalid("dead letters are only sent".to_owned()))))
    }

    fn delete<'a>(&'a self, _: &'a Receipt) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(Err(FifoError::Expired)))
    }

    fn change_visibility<'a>(&'a self, _: &'a Receipt, _: Duration) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(Err(FifoError::Expired)))
    }
}
