//! Callbacks: stored in one statement for all that came in meanwhile, the first one of each order for good.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use queue::hurry_jobs_in_tx;
use sqlx::PgPool;
use store::{
    Coalescer, Error, FairTurn, PgOperation, Result, open_single_connection_pool, run_statement,
    run_tx,
};
use tokio::sync::oneshot;

use super::{ORDER_QUEUE, orphan, paced_batches};

/// The channel on which replicas tell each other of callbacks that are not theirs.
pub const CALLBACK_CHANNEL: &str = "order_callbacks";

/// Where an order goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderData {
    /// Never 0.
    pub storage_id: i32,
    /// Never 0.
    pub pickup_point_id: i32,
}

impl OrderData {
    /// What a data manager gave; `None` if one of them is 0.
    pub fn from_ids(storage_id: i32, pickup_point_id: i32) -> Option<Self> {
        Self::from_columns(storage_id, pickup_point_id)
    }

    /// As stored: 0 stands for nothing.
    pub(super) fn from_columns(storage_id: i32, pickup_point_id: i32) -> Option<Self> {
        (storage_id != 0 && pickup_point_id != 0).then_some(Self { storage_id, pickup_point_id })
    }
}

/// What an order's postings are made of besides its data, fixed by the transaction that stored the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PostingContext {
    /// The database's time of that transaction.
    pub stored_at: DateTime<Utc>,
    /// The version of the posting rules then in force; 0 if there were none.
    pub rules_version: i32,
}

/// An order's data as it was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredOrderData {
    /// The data.
    pub data: OrderData,
    /// What came with storing it.
    pub posting_context: PostingContext,
}

impl StoredOrderData {
    /// From an order's row.
    pub(super) fn from_columns(
        storage_id: i32,
        pickup_point_id: i32,
        at: Option<DateTime<Utc>>,
        rules: Option<i32>,
    ) -> Option<Self> {
        let data = OrderData::from_columns(storage_id, pickup_point_id)?;
        // What was stored before there was a ledger posts by the first rules there were.
        Some(Self {
            data,
            posting_context: PostingContext { stored_at: at?, rules_version: rules.unwrap_or(1) },
        })
    }
}

/// A data manager's answer about one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderCallback {
    /// The order.
    pub order_id: i32,
    /// Its data.
    pub data: OrderData,
}

/// What became of a callback; in each case it is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallbackOutcome {
    /// It is the order's data now.
    Stored,
    /// The order had its data already.
    Duplicate,
    /// There is no such order; kept for an operator.
    Unknown,
}

/// Stores callbacks.
#[derive(Clone)]
pub struct CallbackWriter {
    coalescer: Coalescer<PendingCallback>,
}

struct PendingCallback {
    callback: OrderCallback,
    reply: oneshot::Sender<Result<CallbackOutcome>>,
}

/// Hands an order's stored data to whoever waits for it in this process; false if nobody does.
pub type DeliverCallback = Arc<dyn Fn(i32, StoredOrderData) -> bool + Send + Sync>;

impl CallbackWriter {
    /// Starts storing. Stored data goes to `deliver`; if nobody takes it there, to the retry queue and the replicas.
    pub fn start(pool: PgPool, deliver: DeliverCallback) -> Self {
        let forward_pool = pool.clone();
        let forward = Coalescer::spawn("forward_callbacks", 65_536, 4096, move |batch| {
            let pool = forward_pool.clone();
            async move { forward_callbacks(&pool, batch).await }
        });
        let pool = open_single_connection_pool(&pool);
        let callbacks =
            Coalescer::spawn_fair("store_callbacks", 65_536, paced_batches(8192), move |batch| {
                let (pool, deliver, forward) = (pool.clone(), deliver.clone(), forward.clone());
                async move { store_callback_batch(&pool, &deliver, &forward, batch).await }
            });
        Self { coalescer: callbacks }
    }

    /// Stores one callback. Answers after the commit.
    pub async fn store(&self, callback: OrderCallback) -> Result<CallbackOutcome> {
        self.store_in_turn(FairTurn::next(), callback).await
    }

    /// Stores one of many callbacks that came in one call.
    pub async fn store_in_turn(
        &self,
        turn: FairTurn,
        callback: OrderCallback,
    ) -> Result<CallbackOutcome> {
        let outcome =
            self.coalescer.submit_for(turn, |reply| PendingCallback { callback, reply }).await;
        outcome.unwrap_or(Err(Error::Abandoned))
    }
}

async fn store_callback_batch(
    pool: &PgPool,
    deliver: &DeliverCallback,
    forward: &Coalescer<(i32, StoredOrderData)>,
    batch: Vec<PendingCallback>,
) {
    let mut first_by_order: HashMap<i32, OrderData> = HashMap::with_capacity(batch.len());
    for PendingCallback { callback, .. } in &batch {
        first_by_order.entry(callback.order_id).or_insert(callback.data);
    }
    let mutant_results = || -> Vec<CallbackWriteResult> {
        let outcome = CallbackOutcome::Stored;
        first_by_order
            .keys()
            .map(|order_id| CallbackWriteResult { order_id: *order_id, order_data: None, outcome })
            .collect()
    };
    let written = match store::mutant("callback_answered_before_commit") {
        true => Ok(mutant_results()),
        false => write_callbacks(pool, first_by_order).await,
    };
    let results = match written {
        Ok(verdicts) => verdicts,
        Err(error) => {
            for pending in batch {
                let _ = pending.reply.send(Err(error.clone()));
            }
            return;
        }
    };
    store::fail_point("callbacks_stored");
    let mut outcomes = HashMap::with_capacity(results.len());
    for CallbackWriteResult { order_id, order_data: stored, outcome: answer } in results {
        outcomes.insert(order_id, answer);
        // A duplicate too: it may be the repetition of a write whose answer was lost, and the order wait elsewhere.
        if let Some(stored) = stored
            && !deliver(order_id, stored)
            && !store::mutant("callback_not_forwarded")
        {
            forward.push((order_id, stored)).await;
        }
    }
    for PendingCallback { callback, reply } in batch {
        // Of several for one order in this batch, the first was stored.
        let outcome = outcomes.get_mut(&callback.order_id);
        let outcome = outcome.map_or(CallbackOutcome::Unknown, |answer| match *answer {
            CallbackOutcome::Stored => std::mem::replace(answer, CallbackOutcome::Duplicate),
            other => other,
        });
        metrics::counter!("order_callbacks_total", "kind" => outcome_label(outcome)).increment(1);
        // The sender may be gone.
        let _ = reply.send(Ok(outcome));
    }
}

fn outcome_label(outcome: CallbackOutcome) -> &'static str {
    match outcome {
        CallbackOutcome::Stored => "stored",
        CallbackOutcome::Duplicate => "duplicate",
        CallbackOutcome::Unknown => "unknown",
    }
}

struct CallbackWriteResult {
    order_id: i32,
    /// What the order's data is now.
    order_data: Option<StoredOrderData>,
    outcome: CallbackOutcome,
}

async fn write_callbacks(
    pool: &PgPool,
    callbacks: HashMap<i32, OrderData>,
) -> Result<Vec<CallbackWriteResult>> {
    let mut rows: Vec<(i32, OrderData)> = callbacks.into_iter().collect();
    rows.sort_unstable_by_key(|row| row.0);
    let ids: Arc<[i32]> = rows.iter().map(|row| row.0).collect();
    let storages: Arc<[i32]> = rows.iter().map(|row| row.1.storage_id).collect();
    let pickups: Arc<[i32]> = rows.iter().map(|row| row.1.pickup_point_id).collect();
    let stored_rows: Vec<StoredCallbackRow> =
        run_statement(pool, "store_callbacks", move |connection| {
            let (ids, storages, pickups) = (ids.clone(), storages.clone(), pickups.clone());
            Box::pin(async move {
                let rows = sqlx::query_as(STORE_CALLBACKS_SQL)
                    .bind(&ids[..])
                    .bind(&storages[..])
                    .bind(&pickups[..]);
                Ok(rows.fetch_all(connection).await?)
            })
        })
        .await?;
    let mut known_orders: HashMap<i32, (Option<StoredOrderData>, Option<PostingContext>)> =
        HashMap::with_capacity(stored_rows.len());
    for (order_id, storage_id, pickup_point_id, at, rules, stored_now) in stored_rows {
        let entry = known_orders.entry(order_id).or_default();
        entry.0 = entry.0.or(StoredOrderData::from_columns(storage_id, pickup_point_id, at, rules));
        entry.1 = entry.1.or_else(|| {
            Some(PostingContext { stored_at: at?, rules_version: rules? }).filter(|_| stored_now)
        });
    }
    let unknown: Vec<OrderCallback> = rows
        .iter()
        .filter(|(order_id, _)| !known_orders.contains_key(order_id))
        .map(|(order_id, data)| OrderCallback { order_id: *order_id, data: *data })
        .collect();
    if let Err(error) = orphan::store_orphan_callbacks(pool, unknown).await {
        // The others of this batch are committed, and theirs is the promise.
        tracing::warn!(%error, code = "UNAVAILABLE", "callbacks of unknown orders could not be kept");
    }
    let write_result = |(order_id, data): (i32, OrderData)| match known_orders.get(&order_id) {
        None => {
            CallbackWriteResult { order_id, order_data: None, outcome: CallbackOutcome::Unknown }
        }
        Some((_, Some(basis))) => {
            let stored = Some(StoredOrderData { data, posting_context: *basis });
            CallbackWriteResult { order_id, order_data: stored, outcome: CallbackOutcome::Stored }
        }
        Some((stored, None)) => CallbackWriteResult {
            order_id,
            order_data: *stored,
            outcome: CallbackOutcome::Duplicate,
        },
    };
    Ok(rows.into_iter().map(write_result).collect())
}

/// Short enough for a second try on another connection before the order's time for its callback is over.
const CALLBACK_FORWARD_TIMEOUT: Duration = Duration::from_secs(2);

/// Nobody in this process waits for these: they wake their job, and the replica that has asked, if there is one. Those of
/// orders that have ended, which a data manager may repeat for as long as it likes, concern nobody. Lost if the process
/// dies here; then the order's next attempt finds the data.
async fn forward_callbacks(pool: &PgPool, callbacks: Vec<(i32, StoredOrderData)>) {
    let callbacks: Arc<[(i32, StoredOrderData)]> = callbacks.into();
    let forward = PgOperation::named("forward_callbacks").with_timeout(CALLBACK_FORWARD_TIMEOUT);
    let forwarded = run_tx(pool, forward, move |connection| {
        let callbacks = callbacks.clone();
        Box::pin(async move {
            let ids: Vec<i32> = callbacks.iter().map(|callback| callback.0).collect();
            let unended_orders: HashSet<i32> = sqlx::query_scalar(UNENDED_ORDERS_SQL)
                .bind(ids)
                .fetch_all(&mut *connection)
                .await?
                .into_iter()
                .collect();
            if unended_orders.is_empty() {
                return Ok(());
            }
            let keys: Vec<String> = unended_orders.iter().map(i32::to_string).collect();
            hurry_jobs_in_tx(connection, ORDER_QUEUE, &keys).await?;
            let encoded_callbacks: Vec<String> = callbacks
                .iter()
                .filter(|callback| unended_orders.contains(&callback.0))
                .map(encode_callback)
                .collect();
            // A notification holds 8000 bytes, a callback at most 66.
            let payloads: Vec<String> =
                encoded_callbacks.chunks(120).map(|words| words.join(",")).collect();
            sqlx::query(
                "SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload -- notify_callbacks",
            )
            .bind(CALLBACK_CHANNEL)
            .bind(payloads)
            .execute(connection)
            .await?;
            Ok(())
        })
    });
    if let Err(error) = forwarded.await {
        tracing::warn!(%error, code = "UNAVAILABLE", "callbacks could not be forwarded; retries will find them");
    }
}

const UNENDED_ORDERS_SQL: &str =
    "SELECT order_id FROM orders WHERE order_id = ANY ($1) AND state < 4 -- orders_to_forward_to";

fn encode_callback(
    (order_id, StoredOrderData { data, posting_context }): &(i32, StoredOrderData),
) -> String {
    let (storage, pickup) = (data.storage_id, data.pickup_point_id);
    format!(
        "{order_id}:{storage}:{pickup}:{}:{}",
        posting_context.stored_at.timestamp_micros(),
        posting_context.rules_version
    )
}

/// The callbacks of a [`CALLBACK_CHANNEL`] notification; what does not read as one is left out.
pub fn parse_callback_notification(payload: &str) -> impl Iterator<Item = (i32, StoredOrderData)> {
    payload.split(',').filter_map(|word| {
        let mut words = word.split(':');
        let mut number = || words.next()?.parse::<i64>().ok();
        let (order_id, storage, pickup) = (number()?, number()?, number()?);
        let (at, rules) = (DateTime::from_timestamp_micros(number()?)?, number()?);
        let data = OrderData::from_columns(storage.try_into().ok()?, pickup.try_into().ok()?)?;
        let posting_context =
            PostingContext { stored_at: at, rules_version: rules.try_into().ok()? };
        Some((order_id.try_into().ok()?, StoredOrderData { data, posting_context }))
    })
}

/// (order, storage, pickup point, stored at, version of the posting rules, whether it was stored just now)
type StoredCallbackRow = (i32, i32, i32, Option<DateTime<Utc>>, Option<i32>, bool);

/// Each order whose data this callback became (with zeros for it), and, if there are others, each known order with what is
/// stored.
const STORE_CALLBACKS_SQL: &str = "SELECT * FROM store_callbacks($1, $2, $3) -- store_callbacks";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notifications_carry_any_order_id() {
        let callback = |order_id, storage_id, pickup_point_id| {
            let posting_context =
                PostingContext { stored_at: DateTime::UNIX_EPOCH, rules_version: i32::MAX };
            (
                order_id,
                StoredOrderData {
                    data: OrderData { storage_id, pickup_point_id },
                    posting_context,
                },
            )
        };
        let callbacks = [callback(i32::MIN, i32::MIN, 2), callback(0, 3, 4)];
        let payload = format!(
            "{},{},x,5:0:1:0:1,7,1:2:3",
            encode_callback(&callbacks[0]),
            encode_callback(&callbacks[1])
        );
        assert_eq!(parse_callback_notification(&payload).collect::<Vec<_>>(), callbacks);
    }
}
