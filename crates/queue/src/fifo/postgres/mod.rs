//! FIFO engine `postgres`: queues in the control database.
//!
//! - Shape: one statement per call, mostly a function of `sql/control`.
//! - Cost: one round trip per call; concurrent sends and deletes of a queue are coalesced (group
//!   commit). A waiting receiver is woken by NOTIFY and polls once per second.
//! - Lock order: the group's advisory lock, then row locks on its messages. Receiving takes row
//!   locks and only tries the advisory lock, for dead letters.

mod message_status;
mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use store::{PgNotification, PgNotificationHub, StatementTarget};
use tokio::sync::broadcast;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

pub use self::message_status::FifoMessageStatus;
use self::writer::FifoQueueWriter;
use super::message::MessageColumns;
use super::{
    FifoEngine, FifoError, FifoMessage, FifoQueue, FifoQueueOptions, FifoTxSender,
    MAX_RECEIVE_WAIT_TIME, MAX_RECEIVED_MESSAGES, MAX_VISIBILITY_TIMEOUT, MessageReceipt,
    NewFifoMessage, Result, SentMessage, UnsentMessage, catalogue,
};

/// NOTIFY channel that wakes receivers; the payload is the queue's name.
pub const FIFO_CHANNEL: &str = "fifo";
/// Poll interval: bounds the delay after a lost notification or an expired visibility timeout.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// SQLSTATE raised by the functions for a missing queue.
const NO_QUEUE_SQLSTATE: &str = "FQ001";

/// Handle of the engine; clones share its pool.
#[derive(Clone)]
pub struct PgFifo {
    pool: PgPool,
    notifications: PgNotificationHub,
}

/// An open queue of the engine.
struct PgFifoQueue {
    name: String,
    engine: PgFifo,
    writer: FifoQueueWriter,
}

#[derive(store::FromRow)]
struct FifoMessageRow {
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

impl PgFifo {
    /// Creates the engine for the control database behind `pool`; `notifications`
    /// must listen on [`FIFO_CHANNEL`].
    pub fn new(pool: PgPool, notifications: PgNotificationHub) -> Self {
        Self { pool, notifications }
    }
}

impl FifoEngine for PgFifo {
    fn ensure_queue<'a>(
        &'a self,
        name: &'a str,
        options: FifoQueueOptions,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(catalogue::ensure_queue(&self.pool, name, options))
    }

    fn open_queue<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Arc<dyn FifoQueue>>> {
        Box::pin(async move {
            let exists: bool = store::statement(
                "fifo_open",
                "SELECT EXISTS (SELECT FROM fifo_queues WHERE name = $1)",
            )
            .bind(name)
            .fetch_value(&self.pool)
            .await?;
            if !exists {
                return Err(FifoError::NoQueue(name.to_owned()));
            }
            let writer = FifoQueueWriter::start(&self.pool, name);
            let queue = PgFifoQueue { name: name.to_owned(), engine: self.clone(), writer };
            Ok(Arc::new(queue) as Arc<dyn FifoQueue>)
        })
    }
}

impl FifoTxSender for PgFifo {
    fn send_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        queue: &'a str,
        messages: &'a [NewFifoMessage],
    ) -> BoxFuture<'a, store::Result<Vec<SentMessage>>> {
        Box::pin(send_to_queue(connection, queue, messages))
    }

    fn send_all_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        messages: &'a [(&'a str, &'a NewFifoMessage)],
    ) -> BoxFuture<'a, store::Result<Vec<SentMessage>>> {
        Box::pin(send_to_queues(connection, messages))
    }

    fn take_back_in_tx<'a>(
        &'a self,
        _: &'a mut PgConnection,
        _: &'a [String],
    ) -> BoxFuture<'a, store::Result<Vec<UnsentMessage>>> {
        // Committed messages are already in their queue.
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
}

async fn send_to_queues(
    connection: &mut PgConnection,
    messages: &[(&str, &NewFifoMessage)],
) -> store::Result<Vec<SentMessage>> {
    let columns = MessageColumns::from_messages(messages.iter().map(|(_, message)| *message));
    let queues: Vec<&str> = messages.iter().map(|(queue, _)| *queue).collect();
    let sent = store::statement(
        "fifo_send_all",
        "SELECT message_id, sequence FROM fifo_send_all($1, $2, $3, $4, $5)",
    )
    .bind(queues)
    .bind(columns.groups)
    .bind(columns.deduplication_ids)
    .bind(columns.bodies)
    .bind(columns.attributes)
    .fetch_all(connection)
    .await?;
    Ok(to_sent_messages(sent))
}

async fn send_to_queue(
    target: impl StatementTarget,
    queue: &str,
    messages: &[NewFifoMessage],
) -> store::Result<Vec<SentMessage>> {
    let columns = MessageColumns::from_messages(messages.iter());
    let sent = store::statement(
        "fifo_send",
        "SELECT message_id, sequence FROM fifo_send($1, $2, $3, $4, $5)",
    )
    .bind(queue)
    .bind(columns.groups)
    .bind(columns.deduplication_ids)
    .bind(columns.bodies)
    .bind(columns.attributes)
    .fetch_all(target)
    .await?;
    Ok(to_sent_messages(sent))
}

fn to_sent_messages(rows: Vec<(Uuid, i64)>) -> Vec<SentMessage> {
    let mut sent = Vec::with_capacity(rows.len());
    for (id, sequence) in rows {
        sent.push(SentMessage { id: id.to_string(), sequence: to_sequence_number(sequence) });
    }
    sent
}

impl FifoQueue for PgFifoQueue {
    fn name(&self) -> &str {
        &self.name
    }

    fn send(&self, message: NewFifoMessage) -> BoxFuture<'_, Result<SentMessage>> {
        Box::pin(async move {
            message.validate()?;
            self.writer.send(message).await
        })
    }

    fn receive(
        &self,
        max_messages: usize,
        wait: Duration,
        visibility: Option<Duration>,
    ) -> BoxFuture<'_, Result<Vec<FifoMessage>>> {
        Box::pin(async move {
            if !(1..=MAX_RECEIVED_MESSAGES).contains(&max_messages) || wait > MAX_RECEIVE_WAIT_TIME
            {
                let allowed = format!(
                    "1 to {MAX_RECEIVED_MESSAGES} messages and a wait of at most {MAX_RECEIVE_WAIT_TIME:?}"
                );
                return Err(FifoError::Invalid(allowed));
            }
            let visibility = visibility.map(checked_visibility_ms).transpose()?;
            let deadline = Instant::now() + wait;
            // Subscribing before the first receive avoids a lost wakeup.
            let mut subscriber = self.engine.notifications.subscribe();
            loop {
                let received = self.receive_available(max_messages, visibility).await?;
                if !received.is_empty() || Instant::now() >= deadline {
                    return Ok(received);
                }
                let _ = timeout_at(
                    deadline.min(Instant::now() + POLL_INTERVAL),
                    self.wait_for_notification(&mut subscriber),
                )
                .await;
            }
        })
    }

    fn delete<'a>(&'a self, receipt: &'a MessageReceipt) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (sequence, token) = parse_receipt(receipt).ok_or(FifoError::ReceiptExpired)?;
            if self.writer.delete(sequence, token).await? {
                Ok(())
            } else {
                Err(FifoError::ReceiptExpired)
            }
        })
    }

    fn change_visibility<'a>(
        &'a self,
        receipt: &'a MessageReceipt,
        visibility: Duration,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let visibility_ms = checked_visibility_ms(visibility)?;
            self.set_visibility(receipt, visibility_ms).await
        })
    }
}

impl PgFifoQueue {
    async fn receive_available(
        &self,
        max_messages: usize,
        visibility_ms: Option<i64>,
    ) -> Result<Vec<FifoMessage>> {
        let rows: Vec<FifoMessageRow> =
            store::statement("fifo_receive", "SELECT * FROM fifo_receive($1, $2, $3)")
                .bind(&self.name)
                .bind(i32::try_from(max_messages).unwrap_or(i32::MAX))
                .bind(visibility_ms)
                .fetch_all(&self.engine.pool)
                .await
                .map_err(|error| self.map_store_error(error))?;
        rows.into_iter().map(FifoMessageRow::into_message).collect()
    }

    /// Waits for a notification that may concern this queue.
    async fn wait_for_notification(&self, subscriber: &mut broadcast::Receiver<PgNotification>) {
        loop {
            match subscriber.recv().await {
                Ok(PgNotification::Received { channel, payload })
                    if channel != FIFO_CHANNEL || payload != self.name => {}
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                _ => return,
            }
        }
    }

    async fn set_visibility(&self, receipt: &MessageReceipt, visibility_ms: i64) -> Result<()> {
        let (sequence, token) = parse_receipt(receipt).ok_or(FifoError::ReceiptExpired)?;
        let is_changed: bool = store::statement(
            "fifo_change_visibility",
            "SELECT fifo_change_visibility($1, $2, $3, $4)",
        )
        .bind(&self.name)
        .bind(sequence)
        .bind(token)
        .bind(visibility_ms)
        .fetch_value(&self.engine.pool)
        .await
        .map_err(|error| self.map_store_error(error))?;
        if is_changed { Ok(()) } else { Err(FifoError::ReceiptExpired) }
    }

    fn map_store_error(&self, error: store::Error) -> FifoError {
        writer::to_fifo_error(&self.name, error)
    }
}

impl FifoMessageRow {
    fn into_message(self) -> Result<FifoMessage> {
        let attributes: Json<BTreeMap<String, String>> = serde_json::from_str(&self.attributes)
            .map_err(|error| {
                FifoError::Internal(format!("attributes of a stored message: {error}"))
            })?;
        Ok(FifoMessage {
            id: self.message_id.to_string(),
            group: self.group_id,
            deduplication_id: self.dedup_id,
            sequence: to_sequence_number(self.sequence),
            body: self.body,
            attributes: attributes.0,
            sent_at: self.sent_at,
            receive_count: self.receives.unsigned_abs(),
            first_received_at: None,
            receipt: MessageReceipt(format!("{}.{}", self.sequence, self.receipt)),
        })
    }
}

fn parse_receipt(receipt: &MessageReceipt) -> Option<(i64, Uuid)> {
    let (sequence, token) = receipt.0.split_once('.')?;
    Some((sequence.parse().ok()?, token.parse().ok()?))
}

fn to_sequence_number(sequence: i64) -> u128 {
    u128::from(sequence.unsigned_abs())
}

fn checked_visibility_ms(visibility: Duration) -> Result<i64> {
    if visibility > MAX_VISIBILITY_TIMEOUT {
        return Err(FifoError::Invalid(format!(
            "a visibility time-out is at most {MAX_VISIBILITY_TIMEOUT:?}"
        )));
    }
    Ok(duration_ms(visibility))
}

pub(super) fn duration_ms(duration: Duration) -> i64 {
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
