//! Sends and deletes that come at the same time share a statement, and a commit.

use std::sync::Arc;

use sqlx::PgPool;
use store::Coalescer;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{NO_QUEUE, send};
use crate::fifo::{FifoError, NewMessage, Result, Sent};

/// What shares one statement, at most.
const MOST: usize = 200;
/// What may wait.
const ROOM: usize = 1000;

type Reply<T> = oneshot::Sender<Result<T>>;

/// One queue's writes.
pub(super) struct Writes {
    sends: Coalescer<(NewMessage, Reply<Sent>)>,
    deletes: Coalescer<((i64, Uuid), Reply<bool>)>,
}

impl Writes {
    pub(super) fn start(pool: &PgPool, queue: &str) -> Self {
        let (sending, deleting) = ((pool.clone(), queue.to_owned()), (pool.clone(), queue.to_owned()));
        let sends = Coalescer::spawn("fifo_send", ROOM, MOST, move |batch| {
            let (pool, queue) = sending.clone();
            async move {
                let (messages, replies) = batch.into_iter().unzip();
                answer(send_all(&pool, &queue, messages).await, replies);
            }
        });
        let deletes = Coalescer::spawn("fifo_delete", ROOM, MOST, move |batch| {
            let (pool, queue) = deleting.clone();
            async move {
                let (receipts, replies) = batch.into_iter().unzip();
                answer(delete_all(&pool, &queue, receipts).await, replies);
            }
        });
        Self { sends, deletes }
    }

    pub(super) async fn send(&self, message: NewMessage) -> Result<Sent> {
        self.sends.ask(|reply| (message, reply)).await.unwrap_or_else(lost)
    }

    /// Whether the receipt held.
    pub(super) async fn delete(&self, sequence: i64, receipt: Uuid) -> Result<bool> {
        self.deletes.ask(|reply| ((sequence, receipt), reply)).await.unwrap_or_else(lost)
    }
}

fn lost<T>() -> Result<T> {
    Err(FifoError::Unavailable("the answer was lost".to_owned()))
}

/// Each its own outcome, or all the same error.
fn answer<T>(done: Result<Vec<T>>, replies: Vec<Reply<T>>) {
    // Nobody waits any more: that is theirs to decide.
    match done {
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

async fn send_all(pool: &PgPool, queue: &str, messages: Vec<NewMessage>) -> Result<Vec<Sent>> {
    let (name, messages) = (queue.to_owned(), Arc::new(messages));
    let sent = store::run(pool, "fifo_send", move |connection| {
        let (name, messages) = (name.clone(), messages.clone());
        Box::pin(async move { send(connection, &name, &messages).await })
    });
    sent.await.map_err(|error| failed(queue, error))
}

async fn delete_all(pool: &PgPool, queue: &str, receipts: Vec<(i64, Uuid)>) -> Result<Vec<bool>> {
    let name = queue.to_owned();
    let (sequences, tokens): (Vec<i64>, Vec<Uuid>) = receipts.into_iter().unzip();
    let deleted = store::run(pool, "fifo_delete", move |connection| {
        let (name, sequences, tokens) = (name.clone(), sequences.clone(), tokens.clone());
        Box::pin(async move {
            let call = sqlx::query_scalar("SELECT fifo_delete_all($1, $2, $3) -- fifo_delete");
            Ok(call.bind(name).bind(sequences).bind(tokens).fetch_one(connection).await?)
        })
    });
    deleted.await.map_err(|error| failed(queue, error))
}

pub(super) fn failed(queue: &str, error: store::Error) -> FifoError {
    match error.sqlstate().as_deref() {
        Some(NO_QUEUE) => FifoError::NoQueue(queue.to_owned()),
        _ => error.into(),
    }
}
