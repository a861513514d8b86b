//! Reading orders, with the in-memory state of this process added.

use proto::order_service as wire;
use serving::error::{ApiError, control_database_error};

use super::{OrderApiState, convert, page};
use crate::orders::OrderId;
use crate::orders::db::{self, Order, OrderListQuery, OrderState, OrderStateChange};

const DEFAULT_PAGE_SIZE: i32 = 100;
const MAX_PAGE_SIZE: i32 = 1000;

/// Fails with `NOT_FOUND` for an unknown id.
pub(super) async fn get_order(
    api_state: &OrderApiState,
    order_id: OrderId,
) -> Result<wire::Order, ApiError> {
    let found = db::get_order(&api_state.pool, order_id).await.map_err(control_database_error)?;
    found
        .map(|order| convert::to_wire_order(with_current_state(api_state, order)))
        .ok_or_else(|| convert::unknown_order_error(order_id))
}

/// A page by ascending id (keyset pagination).
pub(super) async fn list_orders(
    api_state: &OrderApiState,
    request: wire::ListOrdersRequest,
) -> Result<wire::ListOrdersResponse, ApiError> {
    let state = convert::parse_state_filter(request.state)?;
    let size = match request.page_size {
        0 => DEFAULT_PAGE_SIZE,
        size if size < 0 => {
            return Err(ApiError::invalid_field(
                "page_size",
                format!("{size}; 0 to {MAX_PAGE_SIZE} are allowed"),
            ));
        }
        size => size.min(MAX_PAGE_SIZE),
    };
    let after = page::decode_page_token(&request.page_token, state)?;
    // One extra row shows whether there is another page.
    let list_query = OrderListQuery { state, after, limit: i64::from(size) + 1 };
    let mut found =
        db::list_orders(&api_state.pool, list_query).await.map_err(control_database_error)?;
    let more = found.len() > size as usize;
    found.truncate(size as usize);
    let next_page_token =
        found.last().filter(|_| more).map(|last| page::encode_page_token(state, last.order_id));
    Ok(wire::ListOrdersResponse {
        orders: found
            .into_iter()
            .map(|order| convert::to_wire_order(with_current_state(api_state, order)))
            .collect(),
        next_page_token: next_page_token.unwrap_or_default(),
    })
}

/// `ProcessStarted` is not committed by itself: an order that waits for its
/// callback here has started.
fn with_current_state(api_state: &OrderApiState, mut order: Order) -> Order {
    if order.state == OrderState::Initialized
        && let Some(at) = api_state.exchange.asked_at(order.order_id)
    {
        order.state = OrderState::ProcessStarted;
        order.history.push(OrderStateChange { state: OrderState::ProcessStarted, at });
    }
    order
}
