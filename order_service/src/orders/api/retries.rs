//! `RetryOrders`: many orders in one call.

use audit::AuditActor;
use proto::order_service::{RetryError, RetryOrdersResponse};
use serving::error::{ApiError, control_database_error};
use tonic::Status;

use super::{OrderApiState, convert};
use crate::orders::OrderId;
use crate::orders::db::{
    OrderState, RefusedRetry, count_retryable, retry_orders, retry_orders_in_state,
};

/// The orders of a `RetryOrders` request.
pub(super) enum RetryTarget {
    /// Order ids, each once.
    Ids(Vec<OrderId>),
    /// All orders in this state.
    State(OrderState),
}

/// Retries the orders; a dry run only counts them.
pub(super) async fn retry_target_orders(
    api_state: &OrderApiState,
    target: RetryTarget,
    dry_run: bool,
    actor: &AuditActor,
) -> Result<RetryOrdersResponse, ApiError> {
    let mut errors = Vec::new();
    let orders = match target {
        RetryTarget::Ids(ids) if dry_run => count_retryable(&api_state.pool, ids, None).await,
        RetryTarget::State(state) if dry_run => {
            count_retryable(&api_state.pool, Vec::new(), Some(state)).await
        }
        RetryTarget::State(state) => {
            retry_orders_in_state(&api_state.pool, &api_state.jobs, state, actor).await
        }
        RetryTarget::Ids(ids) => {
            retry_orders(&api_state.pool, &api_state.jobs, &ids, actor).await.map(|refused| {
                let orders = ids.len() - refused.len();
                errors.extend(refused.into_iter().map(wire_retry_error));
                orders as i64
            })
        }
    };
    Ok(RetryOrdersResponse { orders: orders.map_err(control_database_error)?, errors })
}

fn wire_retry_error(refused: RefusedRetry) -> RetryError {
    let RefusedRetry { order_id, error } = refused;
    let status = Status::from(convert::retry_api_error(order_id, error));
    RetryError {
        order_id: order_id.get(),
        code: status.code() as i32,
        message: status.message().to_owned(),
    }
}
