//! Tasks that come through the FIFO queue: scheduled and posted ones.

use std::sync::Arc;

use queue::fifo::{Consumer, FifoEngine, FifoError, Message, QueueTerms, Queues, Verdict, consume};
use tokio_util::sync::CancellationToken;

use super::{Desk, Ended, Limits, WorkerTerms};
use crate::task::called_for;
use crate::{DEAD_LETTERS, QUEUE};

/// Makes the queues of tasks if they are not there.
pub async fn ensure_queues(engine: &dyn FifoEngine) -> Result<Queues, FifoError> {
    // Workers give tasks up by themselves, with the reason: no redrive policy.
    let terms = QueueTerms { visibility: WorkerTerms::default().consumer.visibility, dead_letters: None };
    engine.ensure(DEAD_LETTERS, terms.clone()).await?;
    engine.ensure(QUEUE, terms).await?;
    Ok(Queues { queue: engine.open(QUEUE).await?, dead_letters: engine.open(DEAD_LETTERS).await? })
}

/// Works on tasks until `stop`; what is in work then has its grace, and is given back after it.
pub async fn work(queues: Queues, desk: Desk, terms: WorkerTerms, stop: CancellationToken) {
    let worker = Arc::new(Worker { desk, terms });
    consume(queues, worker, terms.consumer, stop).await;
}

struct Worker {
    desk: Desk,
    terms: WorkerTerms,
}

impl Consumer for Worker {
    async fn consume(&self, message: &Message) -> Verdict {
        let Some(called_for) = called_for(&message.body) else {
            return Verdict::Dead("VALIDATION_ERROR: the message names no task".to_owned());
        };
        let most = self.terms.max_attempts;
        let limits = |number, _| Limits { allowed: number <= most, last: number >= most };
        match self.desk.attempt(called_for, self.terms.backoff, limits).await {
            Ended::Done => Verdict::Done,
            Ended::Again(delay, _) | Ended::Later(delay, _) => Verdict::Again(delay),
            Ended::Dead(reason) => Verdict::Dead(reason),
        }
    }
}
