//! SQL of the callback writer: stores a batch and tells which data each order has.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use store::Result;

use super::{CallbackOutcome, OrderCallback};
use crate::orders::db::{OrderData, PostingContext, StoredOrderData, orphan};
use crate::orders::{OrderId, PickupPointId, StorageId};

/// Result of one order's callback.
pub(super) struct CallbackWriteResult {
    pub(super) order_id: OrderId,
    /// The data stored for the order.
    pub(super) order_data: Option<StoredOrderData>,
    pub(super) outcome: CallbackOutcome,
}

/// Stores `callbacks`, each order once.
pub(super) async fn write_callbacks(
    pool: &PgPool,
    mut callbacks: Vec<OrderCallback>,
) -> Result<Vec<CallbackWriteResult>> {
    callbacks.sort_unstable_by_key(|callback| callback.order_id);
    let ids: Vec<OrderId> = callbacks.iter().map(|callback| callback.order_id).collect();
    let storages: Vec<StorageId> =
        callbacks.iter().map(|callback| callback.data.storage_id).collect();
    let pickups: Vec<PickupPointId> =
        callbacks.iter().map(|callback| callback.data.pickup_point_id).collect();
    let stored_rows: Vec<StoredCallbackRow> =
        store::statement("store_callbacks", STORE_CALLBACKS_SQL)
            .bind(ids)
            .bind(storages)
            .bind(pickups)
            .fetch_all(pool)
            .await?;
    let known_orders = index_known_orders(stored_rows);
    let unknown: Vec<OrderCallback> = callbacks
        .iter()
        .filter(|callback| !known_orders.contains_key(&callback.order_id))
        .copied()
        .collect();
    if let Err(error) = orphan::store_orphan_callbacks(pool, unknown).await {
        // The callbacks of known orders are committed and must be answered as such.
        tracing::warn!(%error, code = "UNAVAILABLE", "callbacks of unknown orders could not be kept");
    }
    let results = callbacks.into_iter().map(|OrderCallback { order_id, data }| {
        let (order_data, outcome) = callback_result(data, known_orders.get(&order_id));
        CallbackWriteResult { order_id, order_data, outcome }
    });
    Ok(results.collect())
}

#[derive(store::FromRow)]
struct StoredCallbackRow {
    order_id: OrderId,
    storage_id: StorageId,
    pickup_point_id: PickupPointId,
    data_at: Option<DateTime<Utc>>,
    posting_rules: Option<i32>,
    /// Whether this statement has stored the data.
    stored_now: bool,
}

/// An order known to the database.
#[derive(Default)]
struct KnownOrder {
    /// The data that was stored before.
    stored_before: Option<StoredOrderData>,
    /// Posting context of the callback, if it was stored now.
    stored_now: Option<PostingContext>,
}

fn index_known_orders(rows: Vec<StoredCallbackRow>) -> HashMap<OrderId, KnownOrder> {
    let mut known_orders: HashMap<OrderId, KnownOrder> = HashMap::with_capacity(rows.len());
    for row in rows {
        let known = known_orders.entry(row.order_id).or_default();
        if known.stored_before.is_none() {
            known.stored_before = StoredOrderData::from_columns(
                row.storage_id,
                row.pickup_point_id,
                row.data_at,
                row.posting_rules,
            );
        }
        if known.stored_now.is_none()
            && row.stored_now
            && let (Some(stored_at), Some(rules_version)) = (row.data_at, row.posting_rules)
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

/// Returns each order whose data was stored now (with zero ids) and, if there are others, every
/// known order with its stored data.
const STORE_CALLBACKS_SQL: &str = "SELECT * FROM store_callbacks($1, $2, $3)";
