//! Repairs of single orders that disagree with the ledger: each in one transaction together with
//! the order's job. Idempotent, and safe beside a running service.

use audit::{AuditAction, AuditActor, AuditDifference, AuditEntry, record_entry};
use queue::{NewJob, enqueue_jobs_in_tx, hurry_jobs_in_tx};
use sqlx::{PgConnection, PgPool};
use store::Result;

use super::retry::revive_orders_in_tx;
use super::{ORDER_QUEUE, StoredOrderData};
use crate::orders::OrderId;

/// Repeats the last stage of a finished order: events already posted are duplicates.
pub async fn repost_order(pool: &PgPool, order_id: OrderId, actor: &AuditActor) -> Result<()> {
    store::transaction("post_order_again", (order_id, actor.clone()))
        .run(pool, |connection, (order_id, actor)| {
            Box::pin(reopen_order_in_tx(connection, *order_id, actor))
        })
        .await
}

async fn reopen_order_in_tx(
    connection: &mut PgConnection,
    order_id: OrderId,
    actor: &AuditActor,
) -> Result<()> {
    let reopened = store::statement("reopen_order", REOPEN_ORDER_SQL)
        .bind(order_id)
        .execute(&mut *connection)
        .await?;
    match reopened {
        0 => Ok(()),
        _ => {
            resume_order(connection, order_id).await?;
            let difference = AuditDifference::default().with_fact("repair", "posted again");
            record_repair_in_tx(connection, actor, order_id, &difference).await
        }
    }
}

async fn record_repair_in_tx(
    connection: &mut PgConnection,
    actor: &AuditActor,
    order_id: OrderId,
    difference: &AuditDifference,
) -> Result<()> {
    let entry = AuditEntry::new(AuditAction::OrderRepair, "order", order_id, difference);
    record_entry(connection, actor, &entry).await
}

/// Revives a failed order in the state it had reached.
pub async fn revive_order(pool: &PgPool, order_id: OrderId, actor: &AuditActor) -> Result<()> {
    store::transaction("revive_order", (order_id, actor.clone()))
        .run(pool, |connection, (order_id, actor)| {
            Box::pin(revive_order_in_tx(connection, *order_id, actor))
        })
        .await
}

async fn revive_order_in_tx(
    connection: &mut PgConnection,
    order_id: OrderId,
    actor: &AuditActor,
) -> Result<()> {
    if revive_orders_in_tx(connection, &[order_id], None).await? == 0 {
        return Ok(());
    }
    let difference = AuditDifference::default().with_fact("repair", "revived");
    record_repair_in_tx(connection, actor, order_id, &difference).await
}

/// Sets the data with which the ledger has the order; an unended or failed
/// order is retried immediately.
pub async fn apply_ledger_data(
    pool: &PgPool,
    order_id: OrderId,
    stored: StoredOrderData,
    actor: &AuditActor,
) -> Result<()> {
    store::transaction("believe_ledger", (order_id, stored, actor.clone()))
        .run(pool, |connection, (order_id, stored, actor)| {
            Box::pin(set_order_data_in_tx(connection, *order_id, stored, actor))
        })
        .await
}

async fn set_order_data_in_tx(
    connection: &mut PgConnection,
    order_id: OrderId,
    stored: &StoredOrderData,
    actor: &AuditActor,
) -> Result<()> {
    let state: Option<i16> = store::statement("believe_ledger", SET_ORDER_DATA_SQL)
        .bind(order_id)
        .bind(stored.data.storage_id)
        .bind(stored.data.pickup_point_id)
        .bind(stored.posting_context.stored_at)
        .fetch_optional_value(&mut *connection)
        .await?;
    match state {
        None => return Ok(()),
        Some(5) => revive_orders_in_tx(connection, &[order_id], None).await.map(drop)?,
        Some(1..=3) => resume_order(connection, order_id).await?,
        Some(_) => {}
    }
    let difference = AuditDifference::default()
        .with_fact("repair", "got the ledger's data")
        .with_fact("storage_id", stored.data.storage_id.get())
        .with_fact("pickup_point_id", stored.data.pickup_point_id.get());
    record_repair_in_tx(connection, actor, order_id, &difference).await
}

async fn resume_order(connection: &mut PgConnection, order_id: OrderId) -> Result<()> {
    let key = order_id.to_string();
    let job = NewJob { key: Some(key.clone()), ..NewJob::default() };
    enqueue_jobs_in_tx(connection, ORDER_QUEUE, None, &[job]).await?;
    hurry_jobs_in_tx(connection, ORDER_QUEUE, &[key]).await?;
    Ok(())
}

const REOPEN_ORDER_SQL: &str =
    "UPDATE orders SET state = 3, finished_at = NULL WHERE order_id = $1 AND state = 4";

const SET_ORDER_DATA_SQL: &str =
    "UPDATE orders SET storage_id = $2, pickup_point_id = $3, data_at = $4 WHERE order_id = $1
RETURNING state";
