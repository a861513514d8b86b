//! Between the rooms' types and the wire's, in one place.

use chrono::{DateTime, Utc};
use proto::order_service as wire;
use serving::error::{ApiError, Code, of_database};
use tonic::Status;

use crate::orders::{AcceptError, Callback, CallbackAnswer, Data, Order, RetryError, State};

/// How many ids an error message names.
const NAMED: usize = 20;

pub(super) fn timestamp(at: DateTime<Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.timestamp(), nanos: at.timestamp_subsec_nanos().cast_signed() }
}

pub(super) fn order(order: Order) -> wire::Order {
    let change = |change: crate::orders::StateChange| wire::StateChange {
        state: change.state as i32,
        at: Some(timestamp(change.at)),
    };
    wire::Order {
        order_id: order.order_id,
        product_id: order.product_id,
        storage_id: order.data.map_or(0, |data| data.storage_id),
        pickup_point_id: order.data.map_or(0, |data| data.pickup_point_id),
        state: order.state as i32,
        attempts: order.attempts,
        last_error: order.last_error.unwrap_or_default(),
        history: order.history.into_iter().map(change).collect(),
        next_attempt_at: order.next_attempt_at.map(timestamp),
    }
}

pub(super) fn response(
    order_id: i32,
    product_id: i32,
    data: Option<Data>,
    is_processed: bool,
) -> wire::process_orders_response::OrderResponse {
    wire::process_orders_response::OrderResponse {
        order_id,
        product_id,
        storage_id: data.map_or(0, |data| data.storage_id),
        pickup_point_id: data.map_or(0, |data| data.pickup_point_id),
        is_processed,
    }
}

/// The state a listing is filtered by.
pub(super) fn state_filter(number: i32) -> Result<Option<State>, ApiError> {
    if number == 0 {
        return Ok(None);
    }
    State::from_number(number).map(Some).ok_or_else(|| {
        ApiError::field(
            "state",
            format!("{number} is not an OrderState; allowed are 0 (all) to {}", State::ALL.len()),
        )
    })
}

pub(super) fn accept_error(error: AcceptError) -> ApiError {
    match error {
        AcceptError::OtherProduct(ids) => {
            let named: Vec<String> = ids.iter().take(NAMED).map(i32::to_string).collect();
            let more = ids.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let message = format!(
                "orders that exist with another product: {}{more}; nothing of this request was processed",
                named.join(", ")
            );
            ApiError::new(Code::Conflict, message)
        }
        AcceptError::Unavailable(error) => database(error),
    }
}

pub(super) fn retry_error(order_id: i32, error: RetryError) -> ApiError {
    match error {
        RetryError::Unknown => unknown(order_id),
        RetryError::NotWaiting(state) => {
            let message = format!(
                "order {order_id} is {}: only a failed or waiting order can be retried",
                state.name()
            );
            ApiError::new(Code::Locked, message)
        }
        RetryError::Database(error) => database(error),
    }
}

pub(super) fn unknown(order_id: i32) -> ApiError {
    ApiError::new(Code::NotFound, format!("there is no order {order_id}"))
}

/// A stored callback is `Empty`, a repeated one too.
pub(super) fn callback_answer(
    callback: Callback,
    answer: store::Result<CallbackAnswer>,
) -> Result<(), ApiError> {
    match answer {
        Ok(CallbackAnswer::Stored | CallbackAnswer::Duplicate) => Ok(()),
        Ok(CallbackAnswer::Unknown) => Err(unknown(callback.order_id)),
        Err(error) => Err(database(error)),
    }
}

pub(super) fn callback_error(order_id: i32, error: ApiError) -> wire::CallbackError {
    let status = Status::from(error);
    wire::CallbackError { order_id, code: status.code() as i32, message: status.message().to_owned() }
}

/// Details of the database stay in the log.
pub(super) fn database(error: store::Error) -> ApiError {
    of_database("the control database", error)
}
