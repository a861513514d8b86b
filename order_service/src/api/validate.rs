//! What a client may send.

use std::collections::HashSet;

use proto::order_service::SendOrderDataCallbackRequest;
use proto::order_service::process_orders_request::OrderRequest;
use serving::error::ApiError;

use crate::orders::{Callback, Data};

/// The orders of a request as (order, product): any ids, each order once, not too many.
pub(super) fn orders(orders: &[OrderRequest], most: usize) -> Result<Vec<(i32, i32)>, ApiError> {
    if orders.len() > most {
        let reason = format!("{} orders; at most {most} are allowed in one request", orders.len());
        return Err(ApiError::field("orders", reason));
    }
    let mut seen = HashSet::with_capacity(orders.len());
    for (place, order) in orders.iter().enumerate() {
        if !seen.insert(order.order_id) {
            let reason = format!("order {} is in this request twice", order.order_id);
            return Err(ApiError::field(format!("orders[{place}].order_id"), reason));
        }
    }
    Ok(orders.iter().map(|order| (order.order_id, order.product_id)).collect())
}

/// A callback with both of its ids.
pub(super) fn callback(callback: &SendOrderDataCallbackRequest) -> Result<Callback, ApiError> {
    for (field, id) in [("storage_id", callback.storage_id), ("pickup_point_id", callback.pickup_point_id)] {
        if id == 0 {
            return Err(ApiError::field(field, format!("must not be 0 (order {})", callback.order_id)));
        }
    }
    let data = Data { storage_id: callback.storage_id, pickup_point_id: callback.pickup_point_id };
    Ok(Callback { order_id: callback.order_id, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(order_id: i32) -> OrderRequest {
        OrderRequest { order_id, product_id: 1 }
    }

    #[test]
    fn every_int32_is_an_order_id() {
        let all = [i32::MIN, -1, 0, i32::MAX].map(order);
        assert_eq!(orders(&all, 4).unwrap().len(), 4);
    }

    #[test]
    fn an_order_twice_is_refused_by_its_place() {
        let error = orders(&[order(5), order(6), order(5)], 10).unwrap_err();
        assert_eq!(error.fields[0].0, "orders[2].order_id");
    }

    #[test]
    fn too_many_orders_are_refused_with_the_limit() {
        let error = orders(&[order(1), order(2)], 1).unwrap_err();
        assert!(error.message.contains("at most 1"), "{}", error.message);
    }

    #[test]
    fn a_callback_names_what_is_zero() {
        let request = |storage_id, pickup_point_id| SendOrderDataCallbackRequest {
            order_id: 0,
            storage_id,
            pickup_point_id,
        };
        assert_eq!(callback(&request(0, 1)).unwrap_err().fields[0].0, "storage_id");
        assert_eq!(callback(&request(1, 0)).unwrap_err().fields[0].0, "pickup_point_id");
        assert!(callback(&request(-1, i32::MIN)).is_ok());
    }
}
