//! Transactional outbox for queues outside Postgres.
//!
//! [`FifoOutbox`] stores messages in the caller's transaction; [`run_outbox_relay`] sends them.
//!
//! - Shape: rows of `fifo_outbox`. A relay claims up to 100 due rows, only the oldest of each
//!   group, sends up to 32 concurrently and deletes the sent ones.
//! - Cost: two statements per claimed batch (claim, settle).
//! - Promise: at-least-once, in order within a group, with any number of relay processes. A message
//!   sent but not deleted is sent again under the same deduplication id.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use sqlx::{PgConnection, PgPool};
use store::{Outage, PgNotificationHub};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::message::MessageColumns;
use super::{
    FifoEngine, FifoError, FifoQueue, FifoRefusalHandler, FifoTxSender, NewFifoMessage,
    RefusedMessage, Result, SentMessage, UnsentMessage,
};

/// NOTIFY channel that wakes the relays.
pub const OUTBOX_CHANNEL: &str = "fifo_outbox";
/// Maximum number of rows per claim.
const MAX_CLAIMED_MESSAGES: i32 = 100;
/// Maximum number of concurrent sends.
const MAX_SENDS_IN_FLIGHT: usize = 32;
/// Duration of a claim; well below the deduplication window.
const CLAIM_TIMEOUT_SECONDS: f64 = 10.0;
/// Rows claimed longer ago than this are left to the next claim.
const MAX_CLAIM_AGE: Duration = Duration::from_secs(4);
/// Timeout of one send.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// Wait before the next attempt after a failed send.
const RETRY_INTERVAL_SECONDS: f64 = 1.0;
/// Poll interval: bounds the delay after a lost notification.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Sender to the queues of one engine through the outbox.
pub struct FifoOutbox {
    /// Key of the engine in the relay's map.
    pub engine_name: String,
}

impl FifoTxSender for FifoOutbox {
    fn send_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        queue: &'a str,
        messages: &'a [NewFifoMessage],
    ) -> BoxFuture<'a, store::Result<Vec<SentMessage>>> {
        let messages: Vec<_> = messages.iter().map(|message| (queue, message)).collect();
        Box::pin(async move { self.send_all_in_tx(connection, &messages).await })
    }

    fn send_all_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        messages: &'a [(&'a str, &'a NewFifoMessage)],
    ) -> BoxFuture<'a, store::Result<Vec<SentMessage>>> {
        Box::pin(async move {
            let columns =
                MessageColumns::from_messages(messages.iter().map(|(_, message)| *message));
            let queues: Vec<&str> = messages.iter().map(|(queue, _)| *queue).collect();
            store::statement("store_outbox", STORE_OUTBOX_SQL)
                .bind(&self.engine_name)
                .bind(queues)
                .bind(columns.groups)
                .bind(columns.deduplication_ids)
                .bind(columns.bodies)
                .bind(columns.attributes)
                .bind(OUTBOX_CHANNEL)
                .execute(connection)
                .await?;
            Ok(Vec::new())
        })
    }

    fn take_back_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        deduplication_ids: &'a [String],
    ) -> BoxFuture<'a, store::Result<Vec<UnsentMessage>>> {
        Box::pin(async move {
            store::statement("take_back_outbox", TAKE_BACK_OUTBOX_SQL)
                .bind(deduplication_ids)
                .fetch_all(connection)
                .await
        })
    }
}

#[derive(store::FromRow)]
struct OutboxRow {
    outbox_id: i64,
    place: String,
    queue: String,
    group_id: String,
    dedup_id: String,
    body: String,
    attributes: String,
}

struct OutboxRelay {
    pool: PgPool,
    engines: HashMap<String, Arc<dyn FifoEngine>>,
    /// Opened queues by engine and queue name.
    open_queues: Mutex<HashMap<(String, String), Arc<dyn FifoQueue>>>,
    /// Outage logs by engine and queue name.
    outages: Mutex<HashMap<(String, String), Arc<Outage>>>,
    refusal_handler: Arc<dyn FifoRefusalHandler>,
}

/// Sends the outbox messages of these engines until `stop`. `notifications` must listen on
/// [`OUTBOX_CHANNEL`]. `refusal_handler` receives messages that their queue refuses permanently.
pub async fn run_outbox_relay(
    pool: PgPool,
    engines: HashMap<String, Arc<dyn FifoEngine>>,
    notifications: PgNotificationHub,
    refusal_handler: Arc<dyn FifoRefusalHandler>,
    stop: CancellationToken,
) {
    let mut subscriber = notifications.subscribe_channel(OUTBOX_CHANNEL, POLL_INTERVAL);
    let relay = OutboxRelay {
        pool,
        engines,
        open_queues: Mutex::default(),
        outages: Mutex::default(),
        refusal_handler,
    };
    let outage = Outage::default();
    loop {
        let claimed = tokio::select! {
            () = stop.cancelled() => return,
            claimed = relay.send_due_messages() => claimed,
        };
        if claimed.is_ok() {
            outage.record_success(|_| tracing::info!("the outbox is read again"));
        }
        match claimed {
            Ok(0) => {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = subscriber.next() => {}
                }
            }
            Ok(_) => {}
            Err(error) => {
                outage.record_failure(
                    |_| tracing::warn!(%error, code = "UNAVAILABLE", "the outbox could not be read"),
                );
                sleep(POLL_INTERVAL).await;
            }
        }
    }
}

impl OutboxRelay {
    /// Claims and sends due messages; returns the number claimed.
    async fn send_due_messages(&self) -> store::Result<usize> {
        let engine_names: Vec<String> = self.engines.keys().cloned().collect();
        let claimed_at = Instant::now();
        let rows: Vec<OutboxRow> = store::statement("claim_outbox", CLAIM_OUTBOX_SQL)
            .bind(engine_names)
            .bind(CLAIM_TIMEOUT_SECONDS)
            .bind(MAX_CLAIMED_MESSAGES)
            .fetch_all(&self.pool)
            .await?;
        let count = rows.len();
        let sent: Vec<(i64, Option<String>)> = futures::stream::iter(rows)
            .map(|row| self.send_row(row, claimed_at))
            .buffer_unordered(MAX_SENDS_IN_FLIGHT)
            .filter_map(std::future::ready)
            .collect()
            .await;
        if !sent.is_empty() {
            self.settle_messages(sent).await?;
        }
        Ok(count)
    }

    /// Returns the row's id and its error, if any; `None` leaves the row to the next claim.
    async fn send_row(&self, row: OutboxRow, claimed_at: Instant) -> Option<(i64, Option<String>)> {
        if claimed_at.elapsed() > MAX_CLAIM_AGE {
            return None;
        }
        let id = row.outbox_id;
        let (place, queue, deduplication) =
            (row.place.clone(), row.queue.clone(), row.dedup_id.clone());
        let outage = self.queue_outage(&place, &queue);
        let sent = timeout(SEND_TIMEOUT, self.send_message(row)).await;
        let error = match sent
            .unwrap_or_else(|_| Err(FifoError::Unavailable("no answer".to_owned())))
        {
            Ok(_) => {
                metrics::counter!("fifo_outbox_sent_total", "place" => place.clone()).increment(1);
                outage.record_success(|lasted| {
                    tracing::info!(
                        place,
                        queue,
                        seconds = lasted.as_secs(),
                        "messages can be sent again"
                    );
                });
                return Some((id, None));
            }
            Err(error) => error,
        };
        metrics::counter!("fifo_outbox_failed_total", "place" => place.clone()).increment(1);
        if matches!(error, FifoError::Invalid(_) | FifoError::TooLarge(_)) {
            tracing::error!(place, queue, deduplication, %error, code = "LOGIC_ERROR", "a message that no queue takes is given up");
            let refused = RefusedMessage { queue, deduplication_id: deduplication, error };
            let handled = self.refusal_handler.handle_refused(&refused).await;
            return Some((
                id,
                handled
                    .err()
                    .map(|error| format!("{}; and that could not be told: {error}", refused.error)),
            ));
        }
        outage.record_failure(|failures| {
            tracing::warn!(place, queue, %error, failures, code = "UNAVAILABLE", "messages cannot be sent; they are tried again");
        });
        Some((id, Some(error.to_string())))
    }

    fn queue_outage(&self, place: &str, queue: &str) -> Arc<Outage> {
        let mut outages = self.outages.lock().unwrap_or_else(PoisonError::into_inner);
        outages.entry((place.to_owned(), queue.to_owned())).or_default().clone()
    }

    async fn send_message(&self, row: OutboxRow) -> Result<SentMessage> {
        let attributes: BTreeMap<String, String> = serde_json::from_str(&row.attributes)
            .map_err(|error| FifoError::Invalid(format!("attributes: {error}")))?;
        let key = (row.place, row.queue);
        let message = NewFifoMessage {
            group: row.group_id,
            deduplication_id: row.dedup_id,
            body: row.body,
            attributes,
        };
        let sent = self.open_queue(&key).await?.send(message).await;
        if let Err(FifoError::NoQueue(_)) = sent {
            self.lock_open_queues().remove(&key);
        }
        sent
    }

    async fn open_queue(&self, key: &(String, String)) -> Result<Arc<dyn FifoQueue>> {
        let opened = self.lock_open_queues().get(key).cloned();
        if let Some(queue) = opened {
            return Ok(queue);
        }
        let engine = self.engines.get(&key.0);
        let engine = engine.ok_or_else(|| FifoError::Internal(format!("no engine {}", key.0)))?;
        let queue = engine.open_queue(&key.1).await?;
        self.lock_open_queues().insert(key.clone(), queue.clone());
        Ok(queue)
    }

    fn lock_open_queues(
        &self,
    ) -> std::sync::MutexGuard<'_, HashMap<(String, String), Arc<dyn FifoQueue>>> {
        self.open_queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn settle_messages(&self, sent: Vec<(i64, Option<String>)>) -> store::Result<()> {
        let done: Vec<i64> =
            sent.iter().filter(|(_, error)| error.is_none()).map(|(id, _)| *id).collect();
        let (waiting, errors): (Vec<i64>, Vec<String>) = sent
            .into_iter()
            .filter_map(|(id, error)| Some((id, store::to_storable_text(&error?))))
            .unzip();
        store::statement("settle_outbox", SETTLE_OUTBOX_SQL)
            .bind(done)
            .bind(waiting)
            .bind(errors)
            .bind(RETRY_INTERVAL_SECONDS)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

const STORE_OUTBOX_SQL: &str = "\
WITH stored AS (
    INSERT INTO fifo_outbox (place, queue, group_id, dedup_id, body, attributes)
    SELECT $1, m.queue, m.group_id, m.dedup_id, m.body, m.attributes
    FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
        WITH ORDINALITY AS m (queue, group_id, dedup_id, body, attributes, place) ORDER BY m.place
)
SELECT pg_notify($7, $1)";

const CLAIM_OUTBOX_SQL: &str = "\
UPDATE fifo_outbox o SET next_at = now() + make_interval(secs => $2), attempts = o.attempts + 1
FROM (
    SELECT c.outbox_id FROM fifo_outbox c
    WHERE c.next_at <= now() AND c.place = ANY ($1)
      AND NOT EXISTS (SELECT FROM fifo_outbox e WHERE e.place = c.place AND e.queue = c.queue
                      AND e.group_id = c.group_id AND e.outbox_id < c.outbox_id)
    ORDER BY c.next_at, c.outbox_id LIMIT $3 FOR UPDATE SKIP LOCKED
) AS picked
WHERE o.outbox_id = picked.outbox_id
RETURNING o.outbox_id, o.place, o.queue, o.group_id, o.dedup_id, o.body, o.attributes";

const TAKE_BACK_OUTBOX_SQL: &str = "\
DELETE FROM fifo_outbox WHERE dedup_id = ANY ($1) RETURNING dedup_id AS deduplication, attempts, last_error AS reason";

const SETTLE_OUTBOX_SQL: &str = "\
WITH done AS (DELETE FROM fifo_outbox WHERE outbox_id = ANY ($1))
UPDATE fifo_outbox o SET next_at = now() + make_interval(secs => $4), last_error = w.error
FROM unnest($2::bigint[], $3::text[]) AS w (outbox_id, error) WHERE o.outbox_id = w.outbox_id";
