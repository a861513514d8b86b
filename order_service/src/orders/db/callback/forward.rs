//! Forwarding of stored callbacks for which no order waits in this process.

use std::collections::HashSet;
use std::time::Duration;

use chrono::DateTime;
use queue::hurry_jobs_in_tx;
use sqlx::{PgConnection, PgPool};
use store::{PgOperation, Result};

use super::StoredCallback;
use crate::orders::OrderId;
use crate::orders::db::{ORDER_QUEUE, OrderData, PostingContext, StoredOrderData};

/// NOTIFY channel for callbacks of orders that wait in another replica.
pub const CALLBACK_CHANNEL: &str = "order_callbacks";

/// Allows a second try on another connection before the callback timeout of the order.
const CALLBACK_FORWARD_TIMEOUT: Duration = Duration::from_secs(2);

/// Forwards callbacks without a waiting order in this process: makes their jobs due now and
/// notifies the other replicas. Skips ended orders, whose callbacks a data manager may repeat
/// forever. Lost if the process dies here; then the order's next attempt reads the data.
pub(super) async fn forward_callbacks(pool: &PgPool, callbacks: Vec<StoredCallback>) {
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
    callbacks: &[StoredCallback],
) -> Result<()> {
    let ids: Vec<OrderId> = callbacks.iter().map(|callback| callback.order_id).collect();
    let unended_orders: Vec<OrderId> = store::statement("orders_to_forward_to", UNENDED_ORDERS_SQL)
        .bind(ids)
        .fetch_values(&mut *connection)
        .await?;
    if unended_orders.is_empty() {
        return Ok(());
    }
    let unended_orders: HashSet<OrderId> = unended_orders.into_iter().collect();
    let keys: Vec<String> = unended_orders.iter().map(OrderId::to_string).collect();
    hurry_jobs_in_tx(connection, ORDER_QUEUE, &keys).await?;
    let encoded_callbacks: Vec<String> = callbacks
        .iter()
        .filter(|callback| unended_orders.contains(&callback.order_id))
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

fn encode_callback(callback: &StoredCallback) -> String {
    let StoredCallback { order_id, stored: StoredOrderData { data, posting_context } } = callback;
    format!(
        "{order_id}:{}:{}:{}:{}",
        data.storage_id,
        data.pickup_point_id,
        posting_context.stored_at.timestamp_micros(),
        posting_context.rules_version
    )
}

/// Parses a [`CALLBACK_CHANNEL`] payload; skips malformed entries.
pub fn parse_callback_notification(payload: &str) -> impl Iterator<Item = StoredCallback> {
    payload.split(',').filter_map(decode_callback)
}

fn decode_callback(text: &str) -> Option<StoredCallback> {
    let mut words = text.split(':');
    let order_id = parse_id(words.next()?)?;
    let data = OrderData::from_ids(parse_id(words.next()?)?, parse_id(words.next()?)?)?;
    let stored_at = DateTime::from_timestamp_micros(words.next()?.parse().ok()?)?;
    let rules_version = words.next()?.parse().ok()?;
    let posting_context = PostingContext { stored_at, rules_version };
    Some(StoredCallback { order_id, stored: StoredOrderData { data, posting_context } })
}

fn parse_id<Id: From<i32>>(text: &str) -> Option<Id> {
    text.parse::<i32>().ok().map(Id::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notifications_carry_any_order_id() {
        let posting_context =
            PostingContext { stored_at: DateTime::UNIX_EPOCH, rules_version: i32::MAX };
        let callbacks = [(i32::MIN, i32::MIN, 2), (0, 3, 4)].map(|(order, storage, pickup)| {
            let data = OrderData { storage_id: storage.into(), pickup_point_id: pickup.into() };
            StoredCallback {
                order_id: order.into(),
                stored: StoredOrderData { data, posting_context },
            }
        });
        let payload = format!(
            "{},{},x,5:0:1:0:1,7,1:2:3",
            encode_callback(&callbacks[0]),
            encode_callback(&callbacks[1])
        );
        assert_eq!(parse_callback_notification(&payload).collect::<Vec<_>>(), callbacks);
    }
}
