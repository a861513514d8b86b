//! `process_orders`: orders, as if a client had sent them.

use std::collections::HashSet;
use std::sync::Arc;

use futures::future::BoxFuture;
use proto::order_service::process_orders_response::OrderResponse;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use serving::error::{ApiError, Code};
use tasks::{Attempt, Handler, TaskError};

/// Processes orders for somebody: order and product ids, each order once.
pub trait Place: Send + Sync + 'static {
    /// Their outcomes, in their order, as far as they are known in time.
    fn place(&self, orders: Vec<(i32, i32)>) -> BoxFuture<'_, Result<Vec<OrderResponse>, ApiError>>;
}

/// Processes orders.
pub struct ProcessOrders(pub Arc<dyn Place>);

/// Which orders.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrdersParams {
    orders: Orders,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "Vec<OrderParams>")]
struct Orders(Vec<OrderParams>);

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct OrderParams {
    order_id: i32,
    product_id: i32,
}

impl TryFrom<Vec<OrderParams>> for Orders {
    type Error = &'static str;

    fn try_from(orders: Vec<OrderParams>) -> Result<Self, Self::Error> {
        let ids: HashSet<i32> = orders.iter().map(|order| order.order_id).collect();
        match orders.len() {
            0 | 1001.. => Err("must be 1 to 1000 orders"),
            n if n == ids.len() => Ok(Self(orders)),
            _ => Err("must have each order_id once"),
        }
    }
}

impl Handler for ProcessOrders {
    const TASK_TYPE: &'static str = "process_orders";
    type Params = OrdersParams;

    async fn run(&self, attempt: &Attempt, params: OrdersParams) -> Result<Json, TaskError> {
        let orders: Vec<(i32, i32)> =
            params.orders.0.iter().map(|order| (order.order_id, order.product_id)).collect();
        // Before they are: whoever looks at an order finds the task, whatever becomes of this worker.
        let ids = orders.iter().map(|(order_id, _)| order_id.to_string()).collect();
        attempt.note_effects("order", ids).await.map_err(|error| TaskError::Temporary(error.to_string()))?;
        let placed = self.0.place(orders).await.map_err(refused)?;
        let open: Vec<i32> =
            placed.iter().filter(|order| !order.is_processed).map(|order| order.order_id).collect();
        if !open.is_empty() {
            // Asked for again, they are waited for again; what has failed for good says so at once, each time.
            return Err(TaskError::Temporary(format!("orders not processed (yet): {}", listed(&open))));
        }
        let order = |order: &OrderResponse| json!({"order_id": order.order_id, "storage_id": order.storage_id, "pickup_point_id": order.pickup_point_id});
        Ok(json!({"orders": placed.iter().map(order).collect::<Vec<_>>()}))
    }
}

fn refused(error: ApiError) -> TaskError {
    let reason = error.to_string();
    match error.code {
        Code::ValidationError | Code::Conflict => TaskError::Permanent(reason),
        _ => TaskError::Temporary(reason),
    }
}

/// The first of them.
fn listed(ids: &[i32]) -> String {
    let shown: Vec<String> = ids.iter().take(20).map(i32::to_string).collect();
    let more = if ids.len() > 20 { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}
