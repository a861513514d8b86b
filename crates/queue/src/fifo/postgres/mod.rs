//! The engine `postgres`: queues in the control database.
//!
//! Each call is one statement, a function of the migration `fifo`. Receivers are woken by `NOTIFY`, and look once a second
//! while nothing comes; sends and deletes of a moment share one. Lock order: a group's turn (advisory), then its messages; receiving takes messages only.

mod trace;
mod writes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use store::{Notifications, Notify};
use tokio::sync::broadcast;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

pub use self::trace::Trace;
use self::writes::Writes;
use super::{
    FifoEngine, FifoError, FifoQueue, LONGEST_VISIBILITY, LONGEST_WAIT, MOST_RECEIVED, Message, NewMessage,
    QueueTerms, Receipt, Result, SendInTx, Sent, Unsent, catalogue,
};

/// The channel on which receivers are woken; the payload is the queue's name.
pub const CHANNEL: &str = "fifo";
/// How long a message may go unnoticed when its notification was lost, or when it has become visible again.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Raised by the migration's functions.
const NO_QUEUE: &str = "FQ001";

/// The engine; clones share it.
#[derive(Clone)]
pub struct PostgresFifo {
    pool: PgPool,
    notifications: Notifications,
}

/// One queue of it.
struct Queue {
    name: String,
    engine: PostgresFifo,
    writes: Writes,
}

#[derive(sqlx::FromRow)]
struct Row {
    sequence: i64,
    message_id: Uuid,
    group_id: String,
    dedup_id: String,
    body: String,
    attributes: String,
    sent_at: DateTime<Utc>,
    receives: i32,
    receipt: Uuid,
}

impl PostgresFifo {
    /// Queues in the control database behind `pool`; `notifications` must listen on [`CHANNEL`].
    pub fn new(pool: PgPool, notifications: Notifications) -> Self {
        Self { pool, notifications }
    }
}

impl FifoEngine for PostgresFifo {
    fn ensure<'a>(&'a self, name: &'a str, terms: QueueTerms) -> BoxFuture<'a, Result<()>> {
        Box::pin(catalogue::ensure(&self.pool, name, terms))
    }

    fn open<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Arc<dyn FifoQueue>>> {
        Box::pin(async move {
            let asked = name.to_owned();
            let there = store::run(&self.pool, "fifo_open", move |connection| {
                let name = asked.clone();
                Box::pin(async move {
                    let asked = sqlx::query_scalar(
                        "SELECT EXISTS (SELECT FROM fifo_queues WHERE name = $1) -- fifo_open",
                    );
                    Ok(asked.bind(name).fetch_one(connection).await?)
                })
            });
            match there.await? {
                true => {
                    let (name, writes) = (name.to_owned(), Writes::start(&self.pool, name));
                    Ok(Arc::new(Queue { name, engine: self.clone(), writes }) as Arc<dyn FifoQueue>)
                }
                false => Err(FifoError::NoQueue(name.to_owned())),
            }
        })
    }
}

impl SendInTx for PostgresFifo {
    fn send_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        queue: &'a str,
        messages: &'a [NewMessage],
    ) -> BoxFuture<'a, store::Result<Vec<Sent>>> {
        Box::pin(send(connection, queue, messages))
    }

    fn send_all_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        messages: &'a [(&'a str, &'a NewMessage)],
    ) -> BoxFuture<'a, store::Result<Vec<Sent>>> {
        Box::pin(send_all(connection, messages))
    }

    fn take_back_in_tx<'a>(
        &'a self,
        _: &'a mut PgConnection,
        _: &'a [String],
    ) -> BoxFuture<'a, store::Result<Vec<Unsent>>> {
        // What is committed is sent.
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}

async fn send_all(
    connection: &mut PgConnection,
    messages: &[(&str, &NewMessage)],
) -> store::Result<Vec<Sent>> {
    let column = |of: fn(&NewMessage) -> &str| messages.iter().map(|m| of(m.1)).collect::<Vec<_>>();
    let attributes =
        messages.iter().map(|(_, message)| serde_json::to_string(&message.attributes).unwrap_or_default());
    let sent: Vec<(Uuid, i64)> =
        sqlx::query_as("SELECT message_id, sequence FROM fifo_send_all($1, $2, $3, $4, $5) -- fifo_send_all")
            .bind(messages.iter().map(|(queue, _)| *queue).collect::<Vec<_>>())
            .bind(column(|message| &message.group))
            .bind(column(|message| &message.deduplication))
            .bind(column(|message| &message.body))
            .bind(attributes.collect::<Vec<_>>())
            .fetch_all(connection)
            .await?;
    let sent = sent.into_iter().map(|(id, sequence)| Sent { id: id.to_string(), sequence: number(sequence) });
    Ok(sent.collect())
}

async fn send(
    connection: &mut PgConnection,
    queue: &str,
    messages: &[NewMessage],
) -> store::Result<Vec<Sent>> {
    let column = |of: fn(&NewMessage) -> &str| messages.iter().map(of).collect::<Vec<_>>();
    // Maps of texts always have a JSON form.
    let attributes =
        messages.iter().map(|message| serde_json::to_string(&message.attributes).unwrap_or_default());
    let sent: Vec<(Uuid, i64)> =
        sqlx::query_as("SELECT message_id, sequence FROM fifo_send($1, $2, $3, $4, $5) -- fifo_send")
            .bind(queue)
            .bind(column(|message| &message.group))
            .bind(column(|message| &message.deduplication))
            .bind(column(|message| &message.body))
            .bind(attributes.collect::<Vec<_>>())
            .fetch_all(connection)
            .await?;
    let sent = sent.into_iter().map(|(id, sequence)| Sent { id: id.to_string(), sequence: number(sequence) });
    Ok(sent.collect())
}

impl FifoQueue for Queue {
    fn name(&self) -> &str {
        &self.name
    }

    fn send(&self, message: NewMessage) -> BoxFuture<'_, Result<Sent>> {
        Box::pin(async move {
            message.check()?;
            self.writes.send(message).await
        })
    }

    fn receive(
        &self,
        most: usize,
        wait: Duration,
        visibility: Option<Duration>,
    ) -> BoxFuture<'_, Result<Vec<Message>>> {
        Box::pin(async move {
            if !(1..=MOST_RECEIVED).contains(&most) || wait > LONGEST_WAIT {
                let allowed = format!("1 to {MOST_RECEIVED} messages and a wait of at most {LONGEST_WAIT:?}");
                return Err(FifoError::Invalid(allowed));
            }
            let visibility = visibility.map(checked).transpose()?;
            let deadline = Instant::now() + wait;
            // Subscribed before the first look: nothing falls between them.
            let mut heard = self.engine.notifications.subscribe();
            loop {
                let received = self.look(most, visibility).await?;
                if !received.is_empty() || Instant::now() >= deadline {
                    return Ok(received);
                }
                let _ = timeout_at(deadline.min(Instant::now() + LOOK_EVERY), self.told(&mut heard)).await;
            }
        })
    }

    fn delete<'a>(&'a self, receipt: &'a Receipt) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (sequence, token) = parse(receipt).ok_or(FifoError::Expired)?;
            if self.writes.delete(sequence, token).await? { Ok(()) } else { Err(FifoError::Expired) }
        })
    }

    fn change_visibility<'a>(
        &'a self,
        receipt: &'a Receipt,
        visibility: Duration,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let visibility_ms = checked(visibility)?;
            self.keep(receipt, visibility_ms).await
        })
    }
}

impl Queue {
    async fn look(&self, most: usize, visibility_ms: Option<i64>) -> Result<Vec<Message>> {
        let (queue, most) = (self.name.clone(), i32::try_from(most).unwrap_or(i32::MAX));
        let rows: Vec<Row> = store::run(&self.engine.pool, "fifo_receive", move |connection| {
            let queue = queue.clone();
            Box::pin(async move {
                let receive = sqlx::query_as("SELECT * FROM fifo_receive($1, $2, $3) -- fifo_receive");
                Ok(receive.bind(queue).bind(most).bind(visibility_ms).fetch_all(connection).await?)
            })
        })
        .await
        .map_err(|error| self.failed(error))?;
        rows.into_iter().map(Row::message).collect()
    }

    /// Waits for a notification that may be about this queue.
    async fn told(&self, heard: &mut broadcast::Receiver<Notify>) {
        loop {
            match heard.recv().await {
                Ok(Notify::Heard { channel, payload }) if channel != CHANNEL || payload != self.name => {}
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                _ => return,
            }
        }
    }

    async fn keep(&self, receipt: &Receipt, visibility_ms: i64) -> Result<()> {
        let (sequence, token) = parse(receipt).ok_or(FifoError::Expired)?;
        let queue = self.name.clone();
        let kept = store::run(&self.engine.pool, "fifo_change_visibility", move |connection| {
            let queue = queue.clone();
            Box::pin(async move {
                let call = sqlx::query_scalar(
                    "SELECT fifo_change_visibility($1, $2, $3, $4) -- fifo_change_visibility",
                );
                let call = call.bind(queue).bind(sequence).bind(token).bind(visibility_ms);
                Ok(call.fetch_one(connection).await?)
            })
        });
        match kept.await.map_err(|error| self.failed(error))? {
            true => Ok(()),
            false => Err(FifoError::Expired),
        }
    }

    fn failed(&self, error: store::Error) -> FifoError {
        writes::failed(&self.name, error)
    }
}

impl Row {
    fn message(self) -> Result<Message> {
        let attributes: Json<BTreeMap<String, String>> = serde_json::from_str(&self.attributes)
            .map_err(|error| FifoError::Internal(format!("attributes of a stored message: {error}")))?;
        Ok(Message {
            id: self.message_id.to_string(),
            group: self.group_id,
            deduplication: self.dedup_id,
            sequence: number(self.sequence),
            body: self.body,
            attributes: attributes.0,
            sent_at: self.sent_at,
            receives: self.receives.unsigned_abs(),
            first_received_at: None,
            receipt: Receipt(format!("{}.{}", self.sequence, self.receipt)),
        })
    }
}

fn parse(receipt: &Receipt) -> Option<(i64, Uuid)> {
    let (sequence, token) = receipt.0.split_once('.')?;
    Some((sequence.parse().ok()?, token.parse().ok()?))
}

fn number(sequence: i64) -> u128 {
    u128::from(sequence.unsigned_abs())
}

fn checked(visibility: Duration) -> Result<i64> {
    if visibility > LONGEST_VISIBILITY {
        return Err(FifoError::Invalid(format!("a visibility time-out is at most {LONGEST_VISIBILITY:?}")));
    }
    Ok(milliseconds(visibility))
}

pub(super) fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl From<store::Error> for FifoError {
    fn from(error: store::Error) -> Self {
        if error.is_temporary() {
            FifoError::Unavailable(error.to_string())
        } else {
            FifoError::Internal(error.to_string())
        }
    }
}
