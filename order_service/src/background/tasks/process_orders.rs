//! Task type `process_orders`: processes orders like a client's `ProcessOrders` call.

use access::Scope;
use std::collections::HashSet;

use proto::order_service::process_orders_response::OrderResponse;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use serving::error::{ApiError, ErrorCode};
use tasks::{TaskAttempt, TaskAttemptError, TaskHandler};

use crate::orders::NewOrder;
use crate::orders::api::OrderApiState;

/// Handler of the task type.
pub struct ProcessOrdersHandler(pub OrderApiState);

/// Parameters of the task: 1 to 1000 orders, each order id once.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessOrdersParams {
    orders: OrderParamsList,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "Vec<OrderParams>")]
struct OrderParamsList(Vec<OrderParams>);

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct OrderParams {
    order_id: i32,
    product_id: i32,
}

impl OrderParams {
    fn to_order(self) -> NewOrder {
        NewOrder { order_id: self.order_id.into(), product_id: self.product_id.into() }
    }
}

impl TryFrom<Vec<OrderParams>> for OrderParamsList {
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

impl TaskHandler for ProcessOrdersHandler {
    const TASK_TYPE: &'static str = "process_orders";
    const SCOPE: Option<Scope> = Some(Scope::OrdersProcess);
    type Params = ProcessOrdersParams;

    async fn run(
        &self,
        attempt: &TaskAttempt,
        params: ProcessOrdersParams,
    ) -> Result<Json, TaskAttemptError> {
        let orders: Vec<NewOrder> =
            params.orders.0.iter().copied().map(OrderParams::to_order).collect();
        // Record the effects first: the task of an order can be found even if this worker dies.
        let ids = orders.iter().map(|order| order.order_id.to_string()).collect();
        attempt
            .note_effects("order", ids)
            .await
            .map_err(|error| TaskAttemptError::Temporary(error.to_string()))?;
        let responses = self.0.process_orders(orders).await.map_err(processing_task_error)?;
        let unprocessed_ids: Vec<i32> = responses
            .iter()
            .filter(|order| !order.is_processed)
            .map(|order| order.order_id)
            .collect();
        if !unprocessed_ids.is_empty() {
            // A further attempt waits for the same orders; a finally failed order fails it
            // immediately.
            return Err(TaskAttemptError::Temporary(format!(
                "orders not processed (yet): {}",
                format_order_ids(&unprocessed_ids)
            )));
        }
        Ok(json!({"orders": responses.iter().map(order_json).collect::<Vec<Json>>()}))
    }
}

fn order_json(order: &OrderResponse) -> Json {
    json!({
        "order_id": order.order_id,
        "storage_id": order.storage_id,
        "pickup_point_id": order.pickup_point_id,
    })
}

fn processing_task_error(error: ApiError) -> TaskAttemptError {
    let reason = error.to_string();
    match error.code {
        ErrorCode::ValidationError | ErrorCode::Conflict => TaskAttemptError::Permanent(reason),
        _ => TaskAttemptError::Temporary(reason),
    }
}

/// Lists the first 20 ids.
fn format_order_ids(ids: &[i32]) -> String {
    let shown_ids: Vec<String> = ids.iter().take(20).map(i32::to_string).collect();
    let more = if ids.len() > 20 { ", …" } else { "" };
    format!("{}{more}", shown_ids.join(", "))
}
