//! Validation of requests.

use std::collections::HashSet;

use proto::order_service::process_orders_request::OrderRequest;
use proto::order_service::{RetryOrdersRequest, SendOrderDataCallbackRequest};
use serving::error::ApiError;

use super::convert;
use super::retries::RetryTarget;
use crate::orders::db::{OrderCallback, OrderData, OrderState};
use crate::orders::{NewOrder, OrderId};

/// Maximum number of ids in one `RetryOrders` request.
const MAX_ORDERS_PER_RETRY: usize = 10_000;

/// The requested orders. Refuses a repeated id and more than `max_orders`; any
/// int32 is a valid id.
pub(super) fn validate_orders(
    orders: &[OrderRequest],
    max_orders: usize,
) -> Result<Vec<NewOrder>, ApiError> {
    if orders.len() > max_orders {
        let reason =
            format!("{} orders; at most {max_orders} are allowed in one request", orders.len());
        return Err(ApiError::invalid_field("orders", reason));
    }
    let mut seen = HashSet::with_capacity(orders.len());
    for (index, order) in orders.iter().enumerate() {
        if !seen.insert(order.order_id) {
            let reason = format!("order {} is in this request twice", order.order_id);
            return Err(ApiError::invalid_field(format!("orders[{index}].order_id"), reason));
        }
    }
    Ok(orders.iter().map(convert::from_wire_order_request).collect())
}

/// Either ids (deduplicated) or a state, not both.
pub(super) fn validate_retry(request: &RetryOrdersRequest) -> Result<RetryTarget, ApiError> {
    let (ids, state) = (&request.order_ids, request.state);
    if !ids.is_empty() {
        if state != 0 {
            return Err(ApiError::invalid_field(
                "state",
                "must be left out where orders are named",
            ));
        }
        if ids.len() > MAX_ORDERS_PER_RETRY {
            let reason = format!(
                "{} orders; at most {MAX_ORDERS_PER_RETRY} are allowed in one request",
                ids.len()
            );
            return Err(ApiError::invalid_field("order_ids", reason));
        }
        let mut seen = HashSet::with_capacity(ids.len());
        let ids = ids.iter().copied().map(OrderId::from).filter(|id| seen.insert(*id));
        return Ok(RetryTarget::Ids(ids.collect()));
    }
    match OrderState::from_number(state) {
        Some(state) if state != OrderState::ProcessFinished => Ok(RetryTarget::State(state)),
        Some(_) => Err(ApiError::invalid_field("state", "finished orders cannot be retried")),
        None => Err(ApiError::invalid_field(
            "order_ids",
            "name orders, or the state of those to be retried",
        )),
    }
}

/// Refuses a storage or pickup point id of 0.
pub(super) fn validate_callback(
    callback: &SendOrderDataCallbackRequest,
) -> Result<OrderCallback, ApiError> {
    for (field, id) in
        [("storage_id", callback.storage_id), ("pickup_point_id", callback.pickup_point_id)]
    {
        if id == 0 {
            return Err(ApiError::invalid_field(
                field,
                format!("must not be 0 (order {})", callback.order_id),
            ));
        }
    }
    let data = OrderData {
        storage_id: callback.storage_id.into(),
        pickup_point_id: callback.pickup_point_id.into(),
    };
    Ok(OrderCallback { order_id: callback.order_id.into(), data })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order_request(order_id: i32) -> OrderRequest {
        OrderRequest { order_id, product_id: 1 }
    }

    #[test]
    fn every_int32_is_an_order_id() {
        let all = [i32::MIN, -1, 0, i32::MAX].map(order_request);
        assert_eq!(validate_orders(&all, 4).unwrap().len(), 4);
    }

    #[test]
    fn an_order_twice_is_refused_by_its_place() {
        let error = validate_orders(&[order_request(5), order_request(6), order_request(5)], 10)
            .unwrap_err();
        assert_eq!(error.fields[0].0, "orders[2].order_id");
    }

    #[test]
    fn too_many_orders_are_refused_with_the_limit() {
        let error = validate_orders(&[order_request(1), order_request(2)], 1).unwrap_err();
        assert!(error.message.contains("at most 1"), "{}", error.message);
    }

    #[test]
    fn what_is_retried_is_named_by_ids_or_by_a_state() {
        let validate = |order_ids: &[i32], state| {
            validate_retry(&RetryOrdersRequest {
                order_ids: order_ids.to_vec(),
                state,
                dry_run: false,
            })
        };
        assert!(
            matches!(validate(&[5, 6, 5], 0), Ok(RetryTarget::Ids(ids)) if ids == [5, 6].map(OrderId::from))
        );
        assert!(matches!(validate(&[], 5), Ok(RetryTarget::State(OrderState::Failed))));
        for (ids, state, field) in [
            (&[][..], 0, "order_ids"),
            (&[], 4, "state"),
            (&[], 77, "order_ids"),
            (&[1], 5, "state"),
        ] {
            let refused = validate(ids, state).err().map(|error| error.fields[0].0.clone());
            assert_eq!(refused.as_deref(), Some(field), "{ids:?} {state}");
        }
        assert!(validate(&[1; MAX_ORDERS_PER_RETRY + 1], 0).is_err());
    }

    #[test]
    fn a_callback_names_what_is_zero() {
        let request = |storage_id, pickup_point_id| SendOrderDataCallbackRequest {
            order_id: 0,
            storage_id,
            pickup_point_id,
        };
        assert_eq!(validate_callback(&request(0, 1)).unwrap_err().fields[0].0, "storage_id");
        assert_eq!(validate_callback(&request(1, 0)).unwrap_err().fields[0].0, "pickup_point_id");
        assert!(validate_callback(&request(-1, i32::MIN)).is_ok());
    }
}
