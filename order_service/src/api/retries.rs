//! `RetryOrders`: many orders in one call.

use proto::order_service::{RetryError, RetryOrdersResponse};
use serving::error::ApiError;
use tonic::Status;

use super::{Rooms, convert};
use crate::orders::{State, count_retryable, retry_all, retry_in_state};

/// Which orders.
pub(super) enum Which {
    /// These, each once.
    Ids(Vec<i32>),
    /// All in this state.
    State(State),
}

/// Retries them, or only counts them.
pub(super) async fn retry(
    rooms: &Rooms,
    which: Which,
    dry_run: bool,
) -> Result<RetryOrdersResponse, ApiError> {
    let mut errors = Vec::new();
    let orders = match which {
        Which::Ids(ids) if dry_run => count_retryable(&rooms.pool, ids, None).await,
        Which::State(state) if dry_run => count_retryable(&rooms.pool, Vec::new(), Some(state)).await,
        Which::State(state) => retry_in_state(&rooms.pool, &rooms.jobs, state).await,
        Which::Ids(ids) => retry_all(&rooms.pool, &rooms.jobs, &ids).await.map(|refused| {
            let orders = ids.len() - refused.len();
            errors.extend(refused.into_iter().map(|(order_id, refusal)| error(order_id, refusal)));
            orders as i64
        }),
    };
    Ok(RetryOrdersResponse { orders: orders.map_err(convert::database)?, errors })
}

fn error(order_id: i32, refusal: crate::orders::RetryError) -> RetryError {
    let status = Status::from(convert::retry_error(order_id, refusal));
    RetryError { order_id, code: status.code() as i32, message: status.message().to_owned() }
}
