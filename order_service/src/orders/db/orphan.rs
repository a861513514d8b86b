//! Orphans: callbacks for unknown orders, in a bounded inbox for the operator.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use store::{PgOperation, Result};

use super::OrderCallback;
use crate::orders::{OrderId, PickupPointId, StorageId};

/// Maximum number of orders in the inbox; further ones are counted and dropped.
const MAX_ORPHANS: i64 = 10_000;

/// A callback for an unknown order.
#[derive(Debug, Clone, PartialEq, store::FromRow)]
pub struct OrphanCallback {
    /// Order id of the callback.
    pub order_id: OrderId,
    /// Never 0; from the callback.
    pub storage_id: StorageId,
    /// Never 0; from the callback.
    pub pickup_point_id: PickupPointId,
    /// Time of the latest callback for this order.
    pub received_at: DateTime<Utc>,
}

/// Orphans of the last day, newest first.
pub async fn list_orphan_callbacks(pool: &PgPool) -> Result<Vec<OrphanCallback>> {
    store::statement(PgOperation::named("list_orphans").expensive(), LIST_ORPHANS_SQL)
        .fetch_all(pool)
        .await
}

/// Stores the latest callback per order (each order once in `callbacks`); deletes orphans
/// older than a day.
pub(super) async fn store_orphan_callbacks(
    pool: &PgPool,
    callbacks: Vec<OrderCallback>,
) -> Result<()> {
    if callbacks.is_empty() {
        return Ok(());
    }
    let ids: Vec<OrderId> = callbacks.iter().map(|callback| callback.order_id).collect();
    let storages: Vec<StorageId> =
        callbacks.iter().map(|callback| callback.data.storage_id).collect();
    let pickups: Vec<PickupPointId> =
        callbacks.iter().map(|callback| callback.data.pickup_point_id).collect();
    let kept = store::statement("keep_orphans", STORE_ORPHANS_SQL)
        .bind(ids)
        .bind(storages)
        .bind(pickups)
        .bind(MAX_ORPHANS)
        .execute(pool)
        .await?;
    let dropped = (callbacks.len() as u64).saturating_sub(kept);
    metrics::counter!("order_orphan_callbacks_dropped_total").increment(dropped);
    Ok(())
}

const LIST_ORPHANS_SQL: &str = "SELECT * FROM orphan_callbacks
WHERE received_at > now() - interval '1 day'
ORDER BY received_at DESC, order_id";

const STORE_ORPHANS_SQL: &str = "WITH old AS (
    DELETE FROM orphan_callbacks WHERE received_at < now() - interval '1 day' AND order_id <> ALL ($1)
), room AS (
    SELECT greatest($4 - count(*), 0) AS room FROM orphan_callbacks
), input AS (
    SELECT t.*, o.order_id IS NOT NULL AS known,
           row_number() OVER (PARTITION BY o.order_id IS NOT NULL ORDER BY t.order_id) AS turn
    FROM unnest($1::int[], $2::int[], $3::int[]) AS t (order_id, storage_id, pickup_point_id)
    LEFT JOIN orphan_callbacks o USING (order_id)
)
INSERT INTO orphan_callbacks (order_id, storage_id, pickup_point_id)
SELECT order_id, storage_id, pickup_point_id FROM input, room WHERE known OR turn <= room ORDER BY order_id
ON CONFLICT (order_id) DO UPDATE
    SET storage_id = excluded.storage_id, pickup_point_id = excluded.pickup_point_id, received_at = now()";
