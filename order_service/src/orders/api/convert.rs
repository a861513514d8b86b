//! Conversions between the service's types and the protobuf messages.

use chrono::{DateTime, Utc};
use proto::order_service as wire;
use serving::error::{ApiError, ErrorCode, control_database_error};
use tonic::Status;

use crate::orders::db::{
    AcceptError, CallbackOutcome, Order, OrderCallback, OrderData, OrderRetryError, OrderState,
    OrderStateChange,
};
use crate::orders::{NewOrder, OrderId};

/// Order ids listed in one error message.
const MAX_LISTED_IDS: usize = 20;

pub(super) fn to_timestamp(at: DateTime<Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.timestamp(),
        nanos: at.timestamp_subsec_nanos().cast_signed(),
    }
}

pub(super) fn to_wire_order(order: Order) -> wire::Order {
    wire::Order {
        order_id: order.order_id.get(),
        product_id: order.product_id.get(),
        storage_id: order.data.map_or(0, |data| data.storage_id.get()),
        pickup_point_id: order.data.map_or(0, |data| data.pickup_point_id.get()),
        state: order.state as i32,
        attempts: order.attempts,
        last_error: order.last_error.unwrap_or_default(),
        history: order.history.into_iter().map(to_wire_change).collect(),
        next_attempt_at: order.next_attempt_at.map(to_timestamp),
    }
}

fn to_wire_change(change: OrderStateChange) -> wire::StateChange {
    wire::StateChange { state: change.state as i32, at: Some(to_timestamp(change.at)) }
}

pub(super) fn from_wire_order_request(
    request: &wire::process_orders_request::OrderRequest,
) -> NewOrder {
    NewOrder { order_id: request.order_id.into(), product_id: request.product_id.into() }
}

pub(super) fn order_response(
    order: NewOrder,
    data: Option<OrderData>,
    is_processed: bool,
) -> wire::process_orders_response::OrderResponse {
    wire::process_orders_response::OrderResponse {
        order_id: order.order_id.get(),
        product_id: order.product_id.get(),
        storage_id: data.map_or(0, |data| data.storage_id.get()),
        pickup_point_id: data.map_or(0, |data| data.pickup_point_id.get()),
        is_processed,
    }
}

/// `None` for 0 (no filter).
pub(super) fn parse_state_filter(number: i32) -> Result<Option<OrderState>, ApiError> {
    if number == 0 {
        return Ok(None);
    }
    OrderState::from_number(number).map(Some).ok_or_else(|| {
        ApiError::invalid_field(
            "state",
            format!(
                "{number} is not an OrderState; allowed are 0 (all) to {}",
                OrderState::ALL.len()
            ),
        )
    })
}

pub(super) fn accept_api_error(error: AcceptError) -> ApiError {
    match error {
        AcceptError::OtherProduct(ids) => {
            let listed_ids: Vec<String> =
                ids.iter().take(MAX_LISTED_IDS).map(OrderId::to_string).collect();
            let more = ids.len().saturating_sub(MAX_LISTED_IDS);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let message = format!(
                "orders that exist with another product: {}{more}; nothing of this request was processed",
                listed_ids.join(", ")
            );
            ApiError::new(ErrorCode::Conflict, message)
        }
        AcceptError::Unavailable(error) => control_database_error(error),
    }
}

pub(super) fn retry_api_error(order_id: OrderId, error: OrderRetryError) -> ApiError {
    match error {
        OrderRetryError::Unknown => unknown_order_error(order_id),
        OrderRetryError::NotWaiting(state) => {
            let message = format!(
                "order {order_id} is {}: only a failed or waiting order can be retried",
                state.name()
            );
            ApiError::new(ErrorCode::Locked, message)
        }
        OrderRetryError::Database(error) => control_database_error(error),
    }
}

pub(super) fn unknown_order_error(order_id: OrderId) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("there is no order {order_id}"))
}

/// A repeated callback is answered like a stored one: `Empty`.
pub(super) fn callback_api_result(
    callback: OrderCallback,
    outcome: store::Result<CallbackOutcome>,
) -> Result<(), ApiError> {
    match outcome {
        Ok(CallbackOutcome::Stored | CallbackOutcome::Duplicate) => Ok(()),
        Ok(CallbackOutcome::Unknown) => Err(unknown_order_error(callback.order_id)),
        Err(error) => Err(control_database_error(error)),
    }
}

pub(super) fn wire_callback_error(order_id: i32, error: ApiError) -> wire::CallbackError {
    let status = Status::from(error);
    wire::CallbackError {
        order_id,
        code: status.code() as i32,
        message: status.message().to_owned(),
    }
}
