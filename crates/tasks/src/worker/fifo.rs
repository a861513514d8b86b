//! Consumer of the FIFO queue: scheduled and posted tasks.

use std::sync::Arc;

use queue::fifo::{
    FifoConsumer, FifoEngine, FifoError, FifoMessage, FifoQueueOptions, FifoQueuePair,
    MessageOutcome, consume_messages,
};
use tokio_util::sync::CancellationToken;

use super::{AttemptLimits, TaskAttemptOutcome, TaskExecutor, TaskWorkerOptions};
use crate::task::parse_task_message;
use crate::{TASK_DEAD_LETTER_QUEUE, TASK_QUEUE};

/// Creates the task queues if they do not exist.
pub async fn ensure_task_queues(engine: &dyn FifoEngine) -> Result<FifoQueuePair, FifoError> {
    // No redrive policy: workers send dead letters themselves, with the reason.
    let options = FifoQueueOptions {
        visibility_timeout: TaskWorkerOptions::default().consumer.visibility_timeout,
        dead_letters: None,
    };
    engine.ensure_queue(TASK_DEAD_LETTER_QUEUE, options.clone()).await?;
    engine.ensure_queue(TASK_QUEUE, options).await?;
    Ok(FifoQueuePair {
        queue: engine.open_queue(TASK_QUEUE).await?,
        dead_letters: engine.open_queue(TASK_DEAD_LETTER_QUEUE).await?,
    })
}

/// Consumes tasks until `stop`; then waits for running attempts up to the shutdown timeout and
/// returns the rest.
pub async fn run_task_worker(
    queues: FifoQueuePair,
    executor: TaskExecutor,
    options: TaskWorkerOptions,
    stop: CancellationToken,
) {
    let worker = Arc::new(TaskFifoConsumer { executor, options });
    consume_messages(queues, worker, options.consumer, stop).await;
}

struct TaskFifoConsumer {
    executor: TaskExecutor,
    options: TaskWorkerOptions,
}

impl FifoConsumer for TaskFifoConsumer {
    async fn consume(&self, message: &FifoMessage) -> MessageOutcome {
        let Some(called_for) = parse_task_message(&message.body) else {
            return MessageOutcome::Dead("VALIDATION_ERROR: the message names no task".to_owned());
        };
        let TaskWorkerOptions { backoff, max_attempts, .. } = self.options;
        let ended = self.executor.attempt_task(called_for, backoff, |number, _| AttemptLimits {
            allowed: number <= max_attempts,
            last: number >= max_attempts,
        });
        match ended.await {
            TaskAttemptOutcome::Done => MessageOutcome::Done,
            TaskAttemptOutcome::Failed(delay, _) | TaskAttemptOutcome::Deferred(delay, _) => {
                MessageOutcome::RetryAfter(delay)
            }
            TaskAttemptOutcome::Dead(reason) => MessageOutcome::Dead(reason),
        }
    }
}
