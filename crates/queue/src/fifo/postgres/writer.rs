//! Coalescing of concurrent sends and deletes of one queue: one statement and one commit per batch.

use sqlx::PgPool;
use store::Coalescer;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{NO_QUEUE_SQLSTATE, send_to_queue};
use crate::fifo::{FifoError, NewFifoMessage, Result, SentMessage};

/// Maximum number of items per statement.
const MAX_BATCH_ITEMS: usize = 200;
/// Maximum number of waiting items.
const MAX_WAITING_ITEMS: usize = 1000;

type FifoReplySender<T> = oneshot::Sender<Result<T>>;

/// Coalescers of one queue.
pub(super) struct FifoQueueWriter {
    sends: Coalescer<(NewFifoMessage, FifoReplySender<SentMessage>)>,
    deletes: Coalescer<((i64, Uuid), FifoReplySender<bool>)>,
}

impl FifoQueueWriter {
    pub(super) fn start(pool: &PgPool, queue: &str) -> Self {
        let (sending, deleting) =
            ((pool.clone(), queue.to_owned()), (pool.clone(), queue.to_owned()));
        let sends =
            Coalescer::spawn("fifo_send", MAX_WAITING_ITEMS, MAX_BATCH_ITEMS, move |batch| {
                let (pool, queue) = sending.clone();
                async move {
                    let (messages, replies) = batch.into_iter().unzip();
                    send_replies(send_batch(&pool, &queue, messages).await, replies);
                }
            });
        let deletes =
            Coalescer::spawn("fifo_delete", MAX_WAITING_ITEMS, MAX_BATCH_ITEMS, move |batch| {
                let (pool, queue) = deleting.clone();
                async move {
                    let (receipts, replies) = batch.into_iter().unzip();
                    send_replies(delete_batch(&pool, &queue, receipts).await, replies);
                }
            });
        Self { sends, deletes }
    }

    pub(super) async fn send(&self, message: NewFifoMessage) -> Result<SentMessage> {
        self.sends.submit(|reply| (message, reply)).await.unwrap_or_else(reply_lost)
    }

    /// Returns whether the receipt was valid.
    pub(super) async fn delete(&self, sequence: i64, receipt: Uuid) -> Result<bool> {
        self.deletes.submit(|reply| ((sequence, receipt), reply)).await.unwrap_or_else(reply_lost)
    }
}

fn reply_lost<T>() -> Result<T> {
    Err(FifoError::Unavailable("the answer was lost".to_owned()))
}

/// Sends each caller its outcome, or all callers the same error.
fn send_replies<T>(result: Result<Vec<T>>, replies: Vec<FifoReplySender<T>>) {
    // A failed reply means that the caller was cancelled.
    match result {
        Ok(outcomes) => {
            for (reply, outcome) in replies.into_iter().zip(outcomes) {
                let _ = reply.send(Ok(outcome));
            }
        }
        Err(error) => {
            for reply in replies {
                let _ = reply.send(Err(error.clone()));
            }
        }
    }
}

async fn send_batch(
    pool: &PgPool,
    queue: &str,
    messages: Vec<NewFifoMessage>,
) -> Result<Vec<SentMessage>> {
    let sent = send_to_queue(pool, queue, &messages).await;
    sent.map_err(|error| to_fifo_error(queue, error))
}

async fn delete_batch(pool: &PgPool, queue: &str, receipts: Vec<(i64, Uuid)>) -> Result<Vec<bool>> {
    let (sequences, tokens): (Vec<i64>, Vec<Uuid>) = receipts.into_iter().unzip();
    store::statement("fifo_delete", "SELECT fifo_delete_all($1, $2, $3)")
        .bind(queue)
        .bind(sequences)
        .bind(tokens)
        .fetch_value(pool)
        .await
        .map_err(|error| to_fifo_error(queue, error))
}

pub(super) fn to_fifo_error(queue: &str, error: store::Error) -> FifoError {
    match error.sqlstate().as_deref() {
        Some(NO_QUEUE_SQLSTATE) => FifoError::NoQueue(queue.to_owned()),
        _ => error.into(),
    }
}
