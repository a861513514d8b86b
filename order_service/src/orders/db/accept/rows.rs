//! SQL of the accepting writer.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use store::{Lease, Result};
use uuid::Uuid;

use super::OrderAcceptRequest;
use crate::orders::db::{OrderData, OrderState};
use crate::orders::{OrderId, PickupPointId, ProductId, StorageId};

/// An order as it is stored after the statement.
pub(super) struct ExistingOrder {
    pub(super) product_id: ProductId,
    pub(super) state: OrderState,
    pub(super) data: Option<OrderData>,
    /// Stored by this batch, perhaps by an earlier try whose answer was lost.
    pub(super) is_in_batch: bool,
}

impl ExistingOrder {
    /// `None` for a row without an order.
    pub(super) fn from_row(row: &AcceptOrderRow) -> Option<(OrderId, Self)> {
        let data = OrderData::from_ids(row.storage_id?, row.pickup_point_id?);
        let state = OrderState::from_number(row.state?.into())?;
        Some((
            row.order_id?,
            Self { product_id: row.product_id?, state, data, is_in_batch: row.mine? },
        ))
    }
}

/// A row of the result: the clock, whether the lane is held, and an existing order if there is one.
#[derive(store::FromRow)]
pub(super) struct AcceptOrderRow {
    pub(super) now: DateTime<Utc>,
    pub(super) held: bool,
    order_id: Option<OrderId>,
    product_id: Option<ProductId>,
    state: Option<i16>,
    storage_id: Option<StorageId>,
    pickup_point_id: Option<PickupPointId>,
    mine: Option<bool>,
}

/// An order to insert. Sorts by order id: replicas that accept the same orders lock in the same
/// order.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct AcceptInputRow {
    order_id: OrderId,
    product_id: ProductId,
    request_index: i32,
}

/// Stores the orders of `requests`, which share no order, in one statement.
pub(super) async fn write_accepted_orders(
    pool: &PgPool,
    lane: &Lease,
    batch_id: Uuid,
    requests: &[OrderAcceptRequest],
) -> Result<Vec<AcceptOrderRow>> {
    let requests = requests.iter().enumerate();
    let mut rows: Vec<AcceptInputRow> = requests
        .flat_map(|(request_index, request)| {
            request.orders.iter().map(move |order| AcceptInputRow {
                order_id: order.order_id,
                product_id: order.product_id,
                request_index: request_index as i32,
            })
        })
        .collect();
    rows.sort_unstable();
    let orders: Vec<OrderId> = rows.iter().map(|row| row.order_id).collect();
    let products: Vec<ProductId> = rows.iter().map(|row| row.product_id).collect();
    let request_indexes: Vec<i32> = rows.iter().map(|row| row.request_index).collect();
    store::statement("accept_orders", ACCEPT_ORDERS_SQL)
        .bind(batch_id)
        .bind(lane.id)
        .bind(lane.epoch)
        .bind(orders)
        .bind(products)
        .bind(request_indexes)
        .fetch_all(pool)
        .await
}

/// One row for each existing order, or a single row without an order.
const ACCEPT_ORDERS_SQL: &str = "SELECT * FROM accept_orders($1, $2, $3, $4, $5, $6)";
