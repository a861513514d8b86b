//! Callback writer: group commit of callbacks; the first callback of an order wins.
//!
//! - Shape: one statement per batch, rows locked by order id.
//! - Promise: answered after the commit; a cancelled client does not cancel the write. Delivery to
//!   a waiting order is at least once within this process; forwarding to other replicas is best
//!   effort (the next attempt reads the data).

mod forward;
mod rows;

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::PgPool;
use store::{Coalescer, Error, FairTurn, Result, open_single_connection_pool};
use tokio::sync::oneshot;

use super::{OrderData, StoredOrderData, paced_batches};
use crate::orders::OrderId;

use forward::forward_callbacks;
pub use forward::{CALLBACK_CHANNEL, parse_callback_notification};
use rows::{CallbackWriteResult, write_callbacks};

/// A callback of the data manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderCallback {
    /// Order id; any int32.
    pub order_id: OrderId,
    /// Storage and pickup point.
    pub data: OrderData,
}

/// The data that is stored for an order, for delivery to its attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredCallback {
    /// Order id; any int32.
    pub order_id: OrderId,
    /// Its data and posting context.
    pub stored: StoredOrderData,
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
pub type DeliverCallback = Arc<dyn Fn(StoredCallback) -> bool + Send + Sync>;

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

    /// Stores one callback in the turn of its order's request, or of the call that brought it.
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
    forward: &Coalescer<StoredCallback>,
    batch: Vec<PendingCallback>,
) {
    let mut first_by_order: HashMap<OrderId, OrderData> = HashMap::with_capacity(batch.len());
    for PendingCallback { callback, .. } in &batch {
        first_by_order.entry(callback.order_id).or_insert(callback.data);
    }
    let written = match store::mutant("callback_answered_before_commit") {
        true => Ok(unwritten_mutant_results(&first_by_order)),
        false => {
            let callbacks = first_by_order.into_iter();
            let callbacks = callbacks.map(|(order_id, data)| OrderCallback { order_id, data });
            write_callbacks(pool, callbacks.collect()).await
        }
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
        let Some(stored) = *order_data else { continue };
        let callback = StoredCallback { order_id: *order_id, stored };
        if !deliver(callback) && !store::mutant("callback_not_forwarded") {
            forward.push(callback).await;
        }
    }
    answer_callbacks(batch, results);
}

/// Results of the mutant that writes nothing.
fn unwritten_mutant_results(callbacks: &HashMap<OrderId, OrderData>) -> Vec<CallbackWriteResult> {
    let outcome = CallbackOutcome::Stored;
    callbacks
        .keys()
        .map(|order_id| CallbackWriteResult { order_id: *order_id, order_data: None, outcome })
        .collect()
}

fn answer_callbacks(batch: Vec<PendingCallback>, results: Vec<CallbackWriteResult>) {
    let mut outcomes: HashMap<OrderId, CallbackOutcome> =
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
