//! Callback writer: group commit of callbacks; the first callback of an order wins.
//!
//! - Shape: one statement per batch, rows locked by order id.
//! - Promise: answered after the commit; a cancelled client does not cancel the write. Delivery to
//!   a waiting order is at least once within this process; forwarding to other replicas is best
//!   effort (the next attempt reads the data).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use queue::hurry_jobs_in_tx;
use sqlx::{PgConnection, PgPool};
use store::{Coalescer, Error, FairTurn, PgOperation, Result, open_single_connection_pool};
use tokio::sync::oneshot;

use super::{ORDER_QUEUE, orphan, paced_batches};

/// NOTIFY channel for callbacks of orders that wait in another replica.
pub const CALLBACK_CHANNEL: &str = "order_callbacks";

/// Storage and pickup point of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderData {
    /// Never 0; 0 means "not stored".
    pub storage_id: i32,
    /// Never 0; 0 means "not stored".
    pub pickup_point_id: i32,
}

impl OrderData {
    /// From ids; `None` if one of them is 0.
    pub fn from_ids(storage_id: i32, pickup_point_id: i32) -> Option<Self> {
        Self::from_columns(storage_id, pickup_point_id)
    }

    /// From table columns, where 0 means "not stored".
    pub(super) fn from_columns(storage_id: i32, pickup_point_id: i32) -> Option<Self> {
        (storage_id != 0 && pickup_point_id != 0).then_some(Self { storage_id, pickup_point_id })
    }
}

/// Inputs of an order's postings besides its data, fixed by the transaction that stored the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PostingContext {
    /// `now()` of that transaction.
    pub stored_at: DateTime<Utc>,
    /// Version of the posting rules then in force; 0 if there were none.
    pub rules_version: i32,
}

/// An order's stored data with its posting context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredOrderData {
    /// Storage and pickup point.
    pub data: OrderData,
    /// Time and rules version of the storing transaction.
    pub posting_context: PostingContext,
}

impl StoredOrderData {
    /// From the columns of an order's row.
    pub(super) fn from_columns(
        storage_id: i32,
        pickup_point_id: i32,
        at: Option<DateTime<Utc>>,
        rules: Option<i32>,
    ) -> Option<Self> {
        let data = OrderData::from_columns(storage_id, pickup_point_id)?;
        // Data stored before the ledger existed is posted by version 1 of the rules.
        Some(Self {
            data,
            posting_context: PostingContext { stored_at: at?, rules_version: rules.unwrap_or(1) },
        })
    }
}

/// A callback of the data manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderCallback {
    /// Order id; any int32.
    pub order_id: i32,
    /// Storage and pickup point.
    pub data: OrderData,
}

/// Result of a callback, always committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallbackOutcome {
    /// Stored as the order's data.
    Stored,
    /// The order already had data; the callback is ignored.
    Duplicate,
    /// No such order; kept in the orphan inbox.
    Unknown,
}

/// Handle of the writer; clones share it.
#[derive(Clone)]
pub struct CallbackWriter {
    coalescer: Coalescer<PendingCallback>,
}

struct PendingCallback {
    callback: OrderCallback,
    reply: oneshot::Sender<Result<CallbackOutcome>>,
}

/// Delivers stored data to the order that waits in this process; false if none waits.
pub type DeliverCallback = Arc<dyn Fn(i32, StoredOrderData) -> bool + Send + Sync>;

impl CallbackWriter {
    /// Starts the writer. Data that `deliver` does not take is forwarded to the retry queue
    /// and the other replicas.
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

    /// Stores one callback; returns after the commit.
    pub async fn store(&self, callback: OrderCallback) -> Result<CallbackOutcome> {
        self.store_in_turn(FairTurn::next(), callback).await
    }

    /// Stores one callback of a batch call, which has one turn in the fair queue.
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
    let written = match store::mutant("callback_answered_before_commit") {
        true => Ok(unwritten_mutant_results(&first_by_order)),
        false => write_callbacks(pool, first_by_order).await,
    };
    let results = match written {
        Ok(results) => results,
        Err(error) => {
            for pending in batch {
                let _ = pending.reply.send(Err(error.clone()));
            }
            return;
        }
    };
    store::fail_point("callbacks_stored");
    for CallbackWriteResult { order_id, order_data, .. } in &results {
        // Duplicates too: it may repeat a write whose commit answer was lost, and the order may
        // wait elsewhere.
        if let Some(stored) = order_data
            && !deliver(*order_id, *stored)
            && !store::mutant("callback_not_forwarded")
        {
            forward.push((*order_id, *stored)).await;
        }
    }
    answer_callbacks(batch, results);
}

/// Results of the mutant that writes nothing.
fn unwritten_mutant_results(callbacks: &HashMap<i32, OrderData>) -> Vec<CallbackWriteResult> {
    let outcome = CallbackOutcome::Stored;
    callbacks
        .keys()
        .map(|order_id| CallbackWriteResult { order_id: *order_id, order_data: None, outcome })
        .collect()
}

fn answer_callbacks(batch: Vec<PendingCallback>, results: Vec<CallbackWriteResult>) {
    let mut outcomes: HashMap<i32, CallbackOutcome> =
        results.into_iter().map(|result| (result.order_id, result.outcome)).collect();
    for PendingCallback { callback, reply } in batch {
        // Of several callbacks for one order in a batch, the first was stored.
        let outcome = outcomes.get_mut(&callback.order_id);
        let outcome = outcome.map_or(CallbackOutcome::Unknown, |answer| match *answer {
            CallbackOutcome::Stored => std::mem::replace(answer, CallbackOutcome::Duplicate),
            other => other,
        });
        metrics::counter!("order_callbacks_total", "kind" => outcome_label(outcome)).increment(1);
        // The client may have disconnected.
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
    /// The data stored for the order.
    order_data: Option<StoredOrderData>,
    outcome: CallbackOutcome,
}

async fn write_callbacks(
    pool: &PgPool,
    callbacks: HashMap<i32, OrderData>,
) -> Result<Vec<CallbackWriteResult>> {
    let mut rows: Vec<(i32, OrderData)> = callbacks.into_iter().collect();
    rows.sort_unstable_by_key(|row| row.0);
    let ids: Vec<i32> = rows.iter().map(|row| row.0).collect();
    let storages: Vec<i32> = rows.iter().map(|row| row.1.storage_id).collect();
    let pickups: Vec<i32> = rows.iter().map(|row| row.1.pickup_point_id).collect();
    let stored_rows: Vec<StoredCallbackRow> =
        store::statement("store_callbacks", STORE_CALLBACKS_SQL)
            .bind(ids)
            .bind(storages)
            .bind(pickups)
            .fetch_all(pool)
            .await?;
    let known_orders = index_known_orders(stored_rows);
    let unknown: Vec<OrderCallback> = rows
        .iter()
        .filter(|(order_id, _)| !known_orders.contains_key(order_id))
        .map(|(order_id, data)| OrderCallback { order_id: *order_id, data: *data })
        .collect();
    if let Err(error) = orphan::store_orphan_callbacks(pool, unknown).await {
        // The callbacks of known orders are committed and must be answered as such.
        tracing::warn!(%error, code = "UNAVAILABLE", "callbacks of unknown orders could not be kept");
    }
    let results = rows.into_iter().map(|(order_id, data)| {
        let (order_data, outcome) = callback_result(data, known_orders.get(&order_id));
        CallbackWriteResult { order_id, order_data, outcome }
    });
    Ok(results.collect())
}

/// An order known to the database.
#[derive(Default)]
struct KnownOrder {
    /// The data that was stored before.
    stored_before: Option<StoredOrderData>,
    /// Posting context of the callback, if it was stored now.
    stored_now: Option<PostingContext>,
}

fn index_known_orders(rows: Vec<StoredCallbackRow>) -> HashMap<i32, KnownOrder> {
    let mut known_orders: HashMap<i32, KnownOrder> = HashMap::with_capacity(rows.len());
    for (order_id, storage_id, pickup_point_id, at, rules, is_stored_now) in rows {
        let known = known_orders.entry(order_id).or_default();
        if known.stored_before.is_none() {
            known.stored_before =
                StoredOrderData::from_columns(storage_id, pickup_point_id, at, rules);
        }
        if known.stored_now.is_none()
            && is_stored_now
            && let (Some(stored_at), Some(rules_version)) = (at, rules)
        {
            known.stored_now = Some(PostingContext { stored_at, rules_version });
        }
    }
    known_orders
}

/// The data stored for the callback's order, and the outcome.
fn callback_result(
    data: OrderData,
    known: Option<&KnownOrder>,
) -> (Option<StoredOrderData>, CallbackOutcome) {
    match known {
        None => (None, CallbackOutcome::Unknown),
        Some(KnownOrder { stored_now: Some(posting_context), .. }) => {
            let stored = StoredOrderData { data, posting_context: *posting_context };
            (Some(stored), CallbackOutcome::Stored)
        }
        Some(KnownOrder { stored_before, stored_now: None }) => {
            (*stored_before, CallbackOutcome::Duplicate)
        }
    }
}

/// Allows a second try on another connection before the callback timeout of the order.
const CALLBACK_FORWARD_TIMEOUT: Duration = Duration::from_secs(2);

/// Forwards callbacks without a waiting order in this process: makes their jobs due now and
/// notifies the other replicas. Skips ended orders, whose callbacks a data manager may repeat
/// forever. Lost if the process dies here; then the order's next attempt reads the data.
async fn forward_callbacks(pool: &PgPool, callbacks: Vec<(i32, StoredOrderData)>) {
    let forward = PgOperation::named("forward_callbacks").with_timeout(CALLBACK_FORWARD_TIMEOUT);
    let forwarded = store::transaction(forward, callbacks)
        .run(pool, |connection, callbacks| Box::pin(forward_callbacks_in_tx(connection, callbacks)))
        .await;
    if let Err(error) = forwarded {
        tracing::warn!(%error, code = "UNAVAILABLE", "callbacks could not be forwarded; retries will find them");
    }
}

async fn forward_callbacks_in_tx(
    connection: &mut PgConnection,
    callbacks: &[(i32, StoredOrderData)],
) -> Result<()> {
    let ids: Vec<i32> = callbacks.iter().map(|callback| callback.0).collect();
    let unended_orders: Vec<i32> = store::statement("orders_to_forward_to", UNENDED_ORDERS_SQL)
        .bind(ids)
        .fetch_values(&mut *connection)
        .await?;
    if unended_orders.is_empty() {
        return Ok(());
    }
    let unended_orders: HashSet<i32> = unended_orders.into_iter().collect();
    let keys: Vec<String> = unended_orders.iter().map(i32::to_string).collect();
    hurry_jobs_in_tx(connection, ORDER_QUEUE, &keys).await?;
    let encoded_callbacks: Vec<String> = callbacks
        .iter()
        .filter(|callback| unended_orders.contains(&callback.0))
        .map(encode_callback)
        .collect();
    // A NOTIFY payload holds 8000 bytes, an encoded callback at most 66.
    let payloads: Vec<String> =
        encoded_callbacks.chunks(120).map(|words| words.join(",")).collect();
    store::statement("notify_callbacks", NOTIFY_CALLBACKS_SQL)
        .bind(CALLBACK_CHANNEL)
        .bind(payloads)
        .execute(connection)
        .await?;
    Ok(())
}

const UNENDED_ORDERS_SQL: &str =
    "SELECT order_id FROM orders WHERE order_id = ANY ($1) AND state < 4";
const NOTIFY_CALLBACKS_SQL: &str =
    "SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload";

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

/// Parses a [`CALLBACK_CHANNEL`] payload; skips malformed entries.
pub fn parse_callback_notification(payload: &str) -> impl Iterator<Item = (i32, StoredOrderData)> {
    payload.split(',').filter_map(decode_callback)
}

fn decode_callback(text: &str) -> Option<(i32, StoredOrderData)> {
    let mut words = text.split(':');
    let order_id = words.next()?.parse().ok()?;
    let (storage, pickup) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let data = OrderData::from_columns(storage, pickup)?;
    let stored_at = DateTime::from_timestamp_micros(words.next()?.parse().ok()?)?;
    let rules_version = words.next()?.parse().ok()?;
    Some((
        order_id,
        StoredOrderData { data, posting_context: PostingContext { stored_at, rules_version } },
    ))
}

/// (order id, storage id, pickup point id, stored at, rules version, stored by this statement)
type StoredCallbackRow = (i32, i32, i32, Option<DateTime<Utc>>, Option<i32>, bool);

/// Returns each order whose data was stored now (with zero ids) and, if there are others, every
/// known order with its stored data.
const STORE_CALLBACKS_SQL: &str = "SELECT * FROM store_callbacks($1, $2, $3)";

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
