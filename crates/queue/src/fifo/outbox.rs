//! The outbox: messages for queues outside Postgres, committed together with the effect they are about.
//!
//! [`Outbox`] stores them in the caller's transaction; [`relay`] sends them, in any number of processes: each claims what is
//! due for a few seconds, only the first of a group, sends, and deletes what was sent. What was sent and not deleted is
//! sent again under the same deduplication id.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use sqlx::{PgConnection, PgPool};
use store::{Notifications, Outage};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    FifoEngine, FifoError, FifoQueue, NewMessage, Refusals, RefusedMessage, Result, SendInTx, Sent, Unsent,
};

/// The channel on which relays are woken.
pub const OUTBOX_CHANNEL: &str = "fifo_outbox";
/// Messages claimed at a time.
const CLAIMED: i32 = 100;
/// Messages on their way at a time.
const ON_THEIR_WAY: usize = 32;
/// How long a claim keeps others away; well below the window in which a repeated message is the same.
const CLAIM_SECONDS: f64 = 10.0;
/// What was claimed longer ago is left to others.
const STALE: Duration = Duration::from_secs(4);
/// How long one send may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a message waits that could not be sent.
const PAUSE_SECONDS: f64 = 1.0;
/// How long a message may go unnoticed when its notification was lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Sends to queues of one place, through the outbox.
pub struct Outbox {
    /// The name of the engine among those of the relay.
    pub place: String,
}

impl SendInTx for Outbox {
    fn send_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        queue: &'a str,
        messages: &'a [NewMessage],
    ) -> BoxFuture<'a, store::Result<Vec<Sent>>> {
        let messages: Vec<_> = messages.iter().map(|message| (queue, message)).collect();
        Box::pin(async move { self.send_all_in_tx(connection, &messages).await })
    }

    fn send_all_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        messages: &'a [(&'a str, &'a NewMessage)],
    ) -> BoxFuture<'a, store::Result<Vec<Sent>>> {
        Box::pin(async move {
            let column = |of: fn(&NewMessage) -> &str| messages.iter().map(|m| of(m.1)).collect::<Vec<_>>();
            let attributes = messages
                .iter()
                .map(|(_, message)| serde_json::to_string(&message.attributes).unwrap_or_default());
            sqlx::query(STORE)
                .bind(&self.place)
                .bind(messages.iter().map(|(queue, _)| *queue).collect::<Vec<_>>())
                .bind(column(|message| &message.group))
                .bind(column(|message| &message.deduplication))
                .bind(column(|message| &message.body))
                .bind(attributes.collect::<Vec<_>>())
                .bind(OUTBOX_CHANNEL)
                .execute(connection)
                .await?;
            Ok(Vec::new())
        })
    }

    fn take_back_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        deduplications: &'a [String],
    ) -> BoxFuture<'a, store::Result<Vec<Unsent>>> {
        Box::pin(
            async move { Ok(sqlx::query_as(TAKE_BACK).bind(deduplications).fetch_all(connection).await?) },
        )
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    outbox_id: i64,
    place: String,
    queue: String,
    group_id: String,
    dedup_id: String,
    body: String,
    attributes: String,
}

struct Relay {
    pool: PgPool,
    engines: HashMap<String, Arc<dyn FifoEngine>>,
    /// Queues that have been opened, by place and name.
    open: Mutex<HashMap<(String, String), Arc<dyn FifoQueue>>>,
    /// Queues that could not be sent to, by place and name.
    outages: Mutex<HashMap<(String, String), Arc<Outage>>>,
    refusals: Arc<dyn Refusals>,
}

/// Sends what comes into the outbox for these places until `stop`; `notifications` must listen on [`OUTBOX_CHANNEL`]. Of what no
/// queue takes `refusals` hears.
pub async fn relay(
    pool: PgPool,
    engines: HashMap<String, Arc<dyn FifoEngine>>,
    notifications: Notifications,
    refusals: Arc<dyn Refusals>,
    stop: CancellationToken,
) {
    let mut heard = notifications.listener(OUTBOX_CHANNEL, LOOK_EVERY);
    let relay = Relay { pool, engines, open: Mutex::default(), outages: Mutex::default(), refusals };
    let outage = Outage::default();
    loop {
        let claimed = tokio::select! {
            () = stop.cancelled() => return,
            claimed = relay.pass() => claimed,
        };
        if claimed.is_ok() {
            outage.worked(|_| tracing::info!("the outbox is read again"));
        }
        match claimed {
            Ok(0) => {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = heard.next() => {}
                }
            }
            Ok(_) => {}
            Err(error) => {
                outage
                    .failed(|_| tracing::warn!(%error, code = "UNAVAILABLE", "the outbox could not be read"));
                sleep(LOOK_EVERY).await;
            }
        }
    }
}

impl Relay {
    /// Sends what is due; how many messages were claimed.
    async fn pass(&self) -> store::Result<usize> {
        let places: Vec<String> = self.engines.keys().cloned().collect();
        let claimed = Instant::now();
        let rows: Vec<Row> = store::run(&self.pool, "claim_outbox", move |connection| {
            let places = places.clone();
            Box::pin(async move {
                let rows = sqlx::query_as(CLAIM).bind(places).bind(CLAIM_SECONDS).bind(CLAIMED);
                Ok(rows.fetch_all(connection).await?)
            })
        })
        .await?;
        let count = rows.len();
        let sent: Vec<(i64, Option<String>)> = futures::stream::iter(rows)
            .map(|row| self.row(row, claimed))
            .buffer_unordered(ON_THEIR_WAY)
            .filter_map(std::future::ready)
            .collect()
            .await;
        if !sent.is_empty() {
            self.settle(sent).await?;
        }
        Ok(count)
    }

    /// The row, and why it was not sent; `None` if it is left to whoever claims it next.
    async fn row(&self, row: Row, claimed: Instant) -> Option<(i64, Option<String>)> {
        if claimed.elapsed() > STALE {
            return None;
        }
        let id = row.outbox_id;
        let (place, queue, deduplication) = (row.place.clone(), row.queue.clone(), row.dedup_id.clone());
        let outage = self.outage(&place, &queue);
        let sent = timeout(PATIENCE, self.send(row)).await;
        let error = match sent.unwrap_or_else(|_| Err(FifoError::Unavailable("no answer".to_owned()))) {
            Ok(_) => {
                metrics::counter!("fifo_outbox_sent_total", "place" => place.clone()).increment(1);
                outage.worked(|lasted| {
                    tracing::info!(place, queue, seconds = lasted.as_secs(), "messages can be sent again");
                });
                return Some((id, None));
            }
            Err(error) => error,
        };
        metrics::counter!("fifo_outbox_failed_total", "place" => place.clone()).increment(1);
        if matches!(error, FifoError::Invalid(_) | FifoError::TooLarge(_)) {
            tracing::error!(place, queue, deduplication, %error, code = "LOGIC_ERROR", "a message that no queue takes is given up");
            let refused = RefusedMessage { queue, deduplication, error };
            let told = self.refusals.refused(&refused).await;
            return Some((
                id,
                told.err().map(|error| format!("{}; and that could not be told: {error}", refused.error)),
            ));
        }
        outage.failed(|failures| {
            tracing::warn!(place, queue, %error, failures, code = "UNAVAILABLE", "messages cannot be sent; they are tried again");
        });
        Some((id, Some(error.to_string())))
    }

    fn outage(&self, place: &str, queue: &str) -> Arc<Outage> {
        let mut outages = self.outages.lock().unwrap_or_else(PoisonError::into_inner);
        outages.entry((place.to_owned(), queue.to_owned())).or_default().clone()
    }

    async fn send(&self, row: Row) -> Result<Sent> {
        let attributes: BTreeMap<String, String> = serde_json::from_str(&row.attributes)
            .map_err(|error| FifoError::Invalid(format!("attributes: {error}")))?;
        let key = (row.place, row.queue);
        let message =
            NewMessage { group: row.group_id, deduplication: row.dedup_id, body: row.body, attributes };
        let sent = self.queue(&key).await?.send(message).await;
        if let Err(FifoError::NoQueue(_)) = sent {
            self.opened().remove(&key);
        }
        sent
    }

    async fn queue(&self, key: &(String, String)) -> Result<Arc<dyn FifoQueue>> {
        let known = self.opened().get(key).cloned();
        if let Some(queue) = known {
            return Ok(queue);
        }
        let engine = self.engines.get(&key.0);
        let engine = engine.ok_or_else(|| FifoError::Internal(format!("no engine {}", key.0)))?;
        let queue = engine.open(&key.1).await?;
        self.opened().insert(key.clone(), queue.clone());
        Ok(queue)
    }

    fn opened(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), Arc<dyn FifoQueue>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn settle(&self, sent: Vec<(i64, Option<String>)>) -> store::Result<()> {
        let done: Vec<i64> = sent.iter().filter(|(_, error)| error.is_none()).map(|(id, _)| *id).collect();
        let (waiting, errors): (Vec<i64>, Vec<String>) =
            sent.into_iter().filter_map(|(id, error)| Some((id, store::storable(&error?)))).unzip();
        store::run(&self.pool, "settle_outbox", move |connection| {
            let (done, waiting, errors) = (done.clone(), waiting.clone(), errors.clone());
            Box::pin(async move {
                let settled = sqlx::query(SETTLE).bind(done).bind(waiting).bind(errors).bind(PAUSE_SECONDS);
                settled.execute(connection).await?;
                Ok(())
            })
        })
        .await
    }
}

const STORE: &str = "-- store_outbox
WITH stored AS (
    INSERT INTO fifo_outbox (place, queue, group_id, dedup_id, body, attributes)
    SELECT $1, m.queue, m.group_id, m.dedup_id, m.body, m.attributes
    FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
        WITH ORDINALITY AS m (queue, group_id, dedup_id, body, attributes, place) ORDER BY m.place
)
SELECT pg_notify($7, $1)";

const CLAIM: &str = "-- claim_outbox
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

const TAKE_BACK: &str = "-- take_back_outbox
DELETE FROM fifo_outbox WHERE dedup_id = ANY ($1) RETURNING dedup_id AS deduplication, attempts, last_error AS reason";

const SETTLE: &str = "-- settle_outbox
WITH done AS (DELETE FROM fifo_outbox WHERE outbox_id = ANY ($1))
UPDATE fifo_outbox o SET next_at = now() + make_interval(secs => $4), last_error = w.error
FROM unnest($2::bigint[], $3::text[]) AS w (outbox_id, error) WHERE o.outbox_id = w.outbox_id";
