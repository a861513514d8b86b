//! Reading orders, with what this process knows beyond the database.

use proto::order_service as wire;
use serving::error::ApiError;

use super::{Rooms, convert, page};
use crate::orders::{self, Listing, Order, State, StateChange};

const PAGE: i32 = 100;
const LARGEST_PAGE: i32 = 1000;

/// One order, or `NOT_FOUND`.
pub(super) async fn get(rooms: &Rooms, order_id: i32) -> Result<wire::Order, ApiError> {
    let found = orders::get(&rooms.pool, order_id).await.map_err(convert::database)?;
    found.map(|order| convert::order(with_present(rooms, order))).ok_or_else(|| convert::unknown(order_id))
}

/// A page of orders.
pub(super) async fn list(
    rooms: &Rooms,
    request: wire::ListOrdersRequest,
) -> Result<wire::ListOrdersResponse, ApiError> {
    let state = convert::state_filter(request.state)?;
    let size = match request.page_size {
        0 => PAGE,
        size if size < 0 => {
            return Err(ApiError::field("page_size", format!("{size}; 0 to {LARGEST_PAGE} are allowed")));
        }
        size => size.min(LARGEST_PAGE),
    };
    let after = page::after(&request.page_token, state)?;
    // One more than asked for tells whether there is another page.
    let listing = Listing { state, after, limit: i64::from(size) + 1 };
    let mut found = orders::list(&rooms.pool, listing).await.map_err(convert::database)?;
    let more = found.len() > size as usize;
    found.truncate(size as usize);
    let next_page_token = found.last().filter(|_| more).map(|last| page::token(state, last.order_id));
    Ok(wire::ListOrdersResponse {
        orders: found.into_iter().map(|order| convert::order(with_present(rooms, order))).collect(),
        next_page_token: next_page_token.unwrap_or_default(),
    })
}

/// States between two commits are kept in memory: an order that is being asked for has started.
fn with_present(rooms: &Rooms, mut order: Order) -> Order {
    if order.state == State::Initialized
        && let Some(at) = rooms.exchange.asked_at(order.order_id)
    {
        order.state = State::ProcessStarted;
        order.history.push(StateChange { state: State::ProcessStarted, at });
    }
    order
}
