//! Queues of integrations: creation with dead letters, and waiting for those that do not exist yet.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use queue::fifo::{
    DeadLetterPolicy, FifoEngine, FifoError, FifoMessage, FifoQueue, FifoQueueOptions,
    MessageReceipt, NewFifoMessage, Result, SentMessage,
};

use store::Outage;

use crate::template::Env;

/// Receive count at which a task becomes a dead letter: it presumably crashes its consumers, and
/// would block its group. 50 receives at a visibility timeout of 30 s take 25 minutes; backoff
/// after temporary errors makes it longer.
pub const MAX_TASK_RECEIVES: u32 = 50;
/// Answers are redelivered as long as the database is down, and do not crash their consumer.
const MAX_ANSWER_RECEIVES: u32 = 1000;
/// Default visibility timeout of the queues.
const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(30);

/// Interval between attempts to open a missing queue.
const OPEN_RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Creates an integration's queue in an environment, with its dead-letter
/// queue. Returns both names.
pub async fn ensure_integration_queue(
    engine: &dyn FifoEngine,
    queue: &str,
    env: Env,
) -> Result<[String; 2]> {
    ensure_queue_pair(engine, queue, env, MAX_TASK_RECEIVES).await
}

/// Creates the answer queue of an environment, with its dead-letter queue. Returns both names.
pub async fn ensure_answer_queue(
    engine: &dyn FifoEngine,
    queue: &str,
    env: Env,
) -> Result<[String; 2]> {
    ensure_queue_pair(engine, queue, env, MAX_ANSWER_RECEIVES).await
}

async fn ensure_queue_pair(
    engine: &dyn FifoEngine,
    queue: &str,
    env: Env,
    max_receives: u32,
) -> Result<[String; 2]> {
    let (name, dead) = (env.queue_name(queue), env.dead_letter_queue_name(queue));
    engine
        .ensure_queue(
            &dead,
            FifoQueueOptions { visibility_timeout: VISIBILITY_TIMEOUT, dead_letters: None },
        )
        .await?;
    let dead_letters = Some(DeadLetterPolicy { queue: dead.clone(), max_receives });
    engine
        .ensure_queue(
            &name,
            FifoQueueOptions { visibility_timeout: VISIBILITY_TIMEOUT, dead_letters },
        )
        .await?;
    Ok([name, dead])
}

/// Opens the queue, and retries until it exists.
pub async fn wait_for_queue(engine: &dyn FifoEngine, name: &str) -> Arc<dyn FifoQueue> {
    let outage = Outage::default();
    loop {
        match engine.open_queue(name).await {
            Ok(queue) => {
                outage.record_success(|lasted| {
                    tracing::info!(queue = name, seconds = lasted.as_secs(), "the queue is there");
                });
                return queue;
            }
            Err(error) => {
                outage.record_failure(|failures| {
                    tracing::warn!(queue = name, %error, failures, code = "UNAVAILABLE", "a queue is waited for");
                });
                tokio::time::sleep(OPEN_RETRY_INTERVAL).await;
            }
        }
    }
}

/// A dead-letter queue that may be missing: then its messages are logged and dropped.
pub struct OptionalDeadLetterQueue {
    engine: Arc<dyn FifoEngine>,
    name: String,
}

impl OptionalDeadLetterQueue {
    /// A handle of the dead-letter queue with this full name, opened with each send.
    pub fn new(engine: Arc<dyn FifoEngine>, name: String) -> Self {
        Self { engine, name }
    }
}

impl FifoQueue for OptionalDeadLetterQueue {
    fn name(&self) -> &str {
        &self.name
    }

    fn send(&self, message: NewFifoMessage) -> BoxFuture<'_, Result<SentMessage>> {
        Box::pin(async move {
            match self.engine.open_queue(&self.name).await {
                Ok(queue) => queue.send(message).await,
                Err(FifoError::NoQueue(queue)) => {
                    let reason = message.attributes.get(queue::fifo::REASON_ATTRIBUTE);
                    tracing::error!(
                        queue,
                        reason,
                        code = "NOT_FOUND",
                        "a dead letter without a queue to keep it is dropped"
                    );
                    Ok(SentMessage { id: message.deduplication_id, sequence: 0 })
                }
                Err(error) => Err(error),
            }
        })
    }

    fn receive(
        &self,
        _: usize,
        _: Duration,
        _: Option<Duration>,
    ) -> BoxFuture<'_, Result<Vec<FifoMessage>>> {
        Box::pin(std::future::ready(Err(FifoError::Invalid(
            "dead letters are only sent".to_owned(),
        ))))
    }

    fn delete<'a>(&'a self, _: &'a MessageReceipt) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(Err(FifoError::ReceiptExpired)))
    }

    fn change_visibility<'a>(
        &'a self,
        _: &'a MessageReceipt,
        _: Duration,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(std::future::ready(Err(FifoError::ReceiptExpired)))
    }
}
