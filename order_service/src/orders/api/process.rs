//! `ProcessOrders`: accepts a request's orders and waits for their outcomes until its deadline.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proto::order_service::process_orders_response::OrderResponse;
use queue::hurry_jobs_in_tx;
use serving::error::{ApiError, ErrorCode};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{OrderApiState, convert};
use crate::orders::db::{
    AcceptedOrders, EndedOrder, ORDER_QUEUE, OrderState, OutcomeKind, OutcomeNotice,
};
use crate::orders::outcome_hub::OutcomeSubscriber;
use crate::orders::{NewOrder, OrderId, ProductId};

/// Timeout minus the margin for sending the answer: 200 ms, or a tenth of a shorter timeout.
pub(super) fn answer_timeout(timeout: Duration) -> Duration {
    timeout - Duration::from_millis(200).min(timeout / 10)
}

/// Processes `orders` (each id once). Answers in the same order, after `timeout` at the latest.
pub(super) async fn process_orders(
    api_state: OrderApiState,
    orders: Vec<NewOrder>,
    timeout: Duration,
) -> Result<Vec<OrderResponse>, ApiError> {
    if orders.is_empty() {
        return Ok(Vec::new());
    }
    let answer_at = Instant::now() + timeout;
    let admission = api_state.admit_orders(orders.len())?;
    let ids: Vec<OrderId> = orders.iter().map(|order| order.order_id).collect();
    let waiter = Arc::new(OrderRequestWaiter::new(&orders, api_state.limits.max_attempts));
    // Subscribe before accepting: the first order may finish before the last is accepted.
    let _subscription =
        api_state.outcome_hub.subscribe(&(waiter.clone() as Arc<dyn OutcomeSubscriber>), ids);
    // An unreachable database must not outlast the request.
    let accepted =
        tokio::time::timeout_at(answer_at, api_state.acceptor.accept(orders, admission.clone()))
            .await;
    let accepted = accepted.map_err(|_| {
        ApiError::new(ErrorCode::Timeout, "the database did not answer in time: try again")
    })?;
    follow_accepted_orders(&api_state, &*waiter, accepted.map_err(convert::accept_api_error)?);
    tokio::select! {
        () = waiter.wait_for_all() => {}
        () = tokio::time::sleep_until(answer_at) => {}
        () = api_state.closing.cancelled() => {}
    }
    Ok(waiter.responses())
}

impl OrderApiState {
    /// Processes `orders` (each id once) like a `ProcessOrders` call without a timeout of its own.
    /// Returns the outcomes known within the default timeout, in the order of `orders`.
    pub async fn process_orders(
        &self,
        orders: Vec<NewOrder>,
    ) -> Result<Vec<OrderResponse>, ApiError> {
        process_orders(self.clone(), orders, self.limits.default_timeout).await
    }
}

/// Notifies `subscriber` of orders that had already ended; follows the pending ones and makes
/// their jobs due now.
pub(super) fn follow_accepted_orders(
    api_state: &OrderApiState,
    subscriber: &dyn OutcomeSubscriber,
    accepted: AcceptedOrders,
) {
    for EndedOrder { order_id, state, data } in accepted.ended_orders {
        let kind = if state == OrderState::ProcessFinished {
            OutcomeKind::Finished
        } else {
            OutcomeKind::OrderFailed
        };
        subscriber.on_outcome(&OutcomeNotice { order_id, data, kind });
    }
    if accepted.pending_orders.is_empty() {
        return;
    }
    api_state.outcome_hub.follow_orders(&accepted.pending_orders);
    let keys: Vec<String> = accepted.pending_orders.iter().map(OrderId::to_string).collect();
    let api_state = api_state.clone();
    // Detached: the request does not wait for it, least of all while the database is unreachable.
    tokio::spawn(async move {
        let hurried = store::transaction("hurry_orders", keys)
            .run(&api_state.pool, |connection, keys| {
                Box::pin(hurry_jobs_in_tx(connection, ORDER_QUEUE, keys))
            })
            .await;
        match hurried {
            Ok(_) => api_state.jobs.wake_in(Duration::ZERO),
            Err(error) => {
                tracing::warn!(%error, code = "UNAVAILABLE", "waiting orders could not be hurried")
            }
        }
    });
}

/// Collects the outcomes of one request's orders.
struct OrderRequestWaiter {
    indexes: HashMap<OrderId, usize>,
    max_attempts: u32,
    responses: Mutex<Vec<PendingResponse>>,
    pending_count: AtomicUsize,
    completed: Notify,
}

struct PendingResponse {
    response: OrderResponse,
    failed_attempts: u32,
    is_settled: bool,
}

impl OrderRequestWaiter {
    fn new(orders: &[NewOrder], max_attempts: u32) -> Self {
        let mut indexes = HashMap::with_capacity(orders.len());
        let mut responses = Vec::with_capacity(orders.len());
        for (index, order) in orders.iter().enumerate() {
            indexes.insert(order.order_id, index);
            responses.push(PendingResponse {
                response: convert::order_response(*order, None, false),
                failed_attempts: 0,
                is_settled: false,
            });
        }
        Self {
            indexes,
            max_attempts,
            responses: Mutex::new(responses),
            pending_count: AtomicUsize::new(orders.len()),
            completed: Notify::new(),
        }
    }

    async fn wait_for_all(&self) {
        loop {
            let completed = self.completed.notified();
            if self.pending_count.load(Ordering::Acquire) == 0 {
                return;
            }
            completed.await;
        }
    }

    fn responses(&self) -> Vec<OrderResponse> {
        let responses = self.responses.lock().unwrap_or_else(PoisonError::into_inner);
        responses.iter().map(|pending| pending.response).collect()
    }
}

impl OutcomeSubscriber for OrderRequestWaiter {
    fn on_outcome(&self, notice: &OutcomeNotice) -> bool {
        let Some(index) = self.indexes.get(&notice.order_id) else { return true };
        let mut responses = self.responses.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = &mut responses[*index];
        if pending.is_settled {
            return true;
        }
        pending.failed_attempts += u32::from(notice.kind == OutcomeKind::AttemptFailed);
        let product_id = ProductId::from(pending.response.product_id);
        pending.response = convert::order_response(
            NewOrder { order_id: notice.order_id, product_id },
            notice.data,
            notice.kind == OutcomeKind::Finished,
        );
        pending.is_settled = notice.kind != OutcomeKind::AttemptFailed
            || pending.failed_attempts >= self.max_attempts;
        let settled = pending.is_settled;
        drop(responses);
        if settled && self.pending_count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.completed.notify_waiters();
        }
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_leave_in_time() {
        let within = |millis| answer_timeout(Duration::from_millis(millis)).as_millis();
        assert_eq!(
            [within(10_000), within(4000), within(2000), within(1000), within(10)],
            [9800, 3800, 1800, 900, 9]
        );
    }

    #[test]
    fn an_order_is_answered_once_finished_or_out_of_attempts() {
        let order = NewOrder { order_id: OrderId::from(7), product_id: ProductId::from(1) };
        let notice = |news| OutcomeNotice { order_id: order.order_id, data: None, kind: news };
        let waiter = OrderRequestWaiter::new(&[order], 2);
        assert!(!waiter.on_outcome(&notice(OutcomeKind::AttemptFailed)));
        assert!(waiter.on_outcome(&notice(OutcomeKind::AttemptFailed)));
        assert_eq!(waiter.pending_count.load(Ordering::Relaxed), 0);
        assert!(
            waiter.on_outcome(&notice(OutcomeKind::Finished)),
            "too late: the answer is settled"
        );
        assert!(!waiter.responses()[0].is_processed);
    }
}
