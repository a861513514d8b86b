//! `ProcessOrders`: accepts a request's orders and waits for their outcomes as long as the request allows.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use proto::order_service::process_orders_response::OrderResponse;
use queue::hurry_in_tx;
use serving::error::{ApiError, Code};
use store::run_tx;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Rooms, convert};
use crate::events::Place;
use crate::orders::{Accepted, News, QUEUE, State, Told};
use crate::watch::Listener;

/// How much before a deadline the answer leaves: 200 ms, or a tenth of a shorter time.
pub(super) fn answer_within(timeout: Duration) -> Duration {
    timeout - Duration::from_millis(200).min(timeout / 10)
}

/// Processes `orders`, each id once; answers in their order, `within` this time at the latest.
pub(super) async fn process(
    rooms: Rooms,
    orders: Vec<(i32, i32)>,
    within: Duration,
) -> Result<Vec<OrderResponse>, ApiError> {
    if orders.is_empty() {
        return Ok(Vec::new());
    }
    let answer_at = Instant::now() + within;
    let admission = rooms.admit(orders.len())?;
    let ids: Vec<i32> = orders.iter().map(|(order_id, _)| *order_id).collect();
    let results = Arc::new(Results::new(&orders, rooms.limits.attempts));
    // Before they are accepted: the first may be done before the last is.
    let _listening = rooms.watch.listen(&(results.clone() as Arc<dyn Listener>), ids);
    // A database that is away must not outlast the request.
    let accepted = tokio::time::timeout_at(answer_at, rooms.acceptor.accept(orders, admission.clone())).await;
    let accepted = accepted
        .map_err(|_| ApiError::new(Code::Timeout, "the database did not answer in time: try again"))?;
    take_up(&rooms, &*results, accepted.map_err(convert::accept_error)?);
    tokio::select! {
        () = results.complete() => {}
        () = tokio::time::sleep_until(answer_at) => {}
        () = rooms.closing.cancelled() => {}
    }
    Ok(results.responses())
}

impl Place for Rooms {
    fn place(&self, orders: Vec<(i32, i32)>) -> BoxFuture<'_, Result<Vec<OrderResponse>, ApiError>> {
        Box::pin(process(self.clone(), orders, self.limits.deadline))
    }
}

/// Tells the listener of orders that had ended before, and looks after those underway: they are tried at once.
pub(super) fn take_up(rooms: &Rooms, listener: &dyn Listener, accepted: Accepted) {
    for (order_id, state, data) in accepted.ended {
        let news = if state == State::ProcessFinished { News::Finished } else { News::Failed };
        listener.hear(&Told { order_id, data, news });
    }
    if accepted.underway.is_empty() {
        return;
    }
    rooms.watch.follow(&accepted.underway);
    let keys: Vec<String> = accepted.underway.iter().map(i32::to_string).collect();
    let rooms = rooms.clone();
    // By itself: the request does not wait for it, least of all when the database is away.
    tokio::spawn(async move {
        let hurried = run_tx(&rooms.pool, "hurry_orders", move |connection| {
            let keys = keys.clone();
            Box::pin(async move { hurry_in_tx(connection, QUEUE, &keys).await })
        });
        match hurried.await {
            Ok(_) => rooms.jobs.wake_in(Duration::ZERO),
            Err(error) => tracing::warn!(%error, code = "UNAVAILABLE", "waiting orders could not be hurried"),
        }
    });
}

/// A request's answers as they come in.
struct Results {
    places: HashMap<i32, usize>,
    attempts: u32,
    state: Mutex<Vec<Answer>>,
    open: AtomicUsize,
    complete: Notify,
}

struct Answer {
    response: OrderResponse,
    failed_attempts: u32,
    settled: bool,
}

impl Results {
    fn new(orders: &[(i32, i32)], attempts: u32) -> Self {
        let answer = |(order_id, product_id): &(i32, i32)| Answer {
            response: convert::response(*order_id, *product_id, None, false),
            failed_attempts: 0,
            settled: false,
        };
        Self {
            places: orders.iter().enumerate().map(|(place, (order_id, _))| (*order_id, place)).collect(),
            attempts,
            state: Mutex::new(orders.iter().map(answer).collect()),
            open: AtomicUsize::new(orders.len()),
            complete: Notify::new(),
        }
    }

    async fn complete(&self) {
        loop {
            let complete = self.complete.notified();
            if self.open.load(Ordering::Acquire) == 0 {
                return;
            }
            complete.await;
        }
    }

    fn responses(&self) -> Vec<OrderResponse> {
        let answers = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        answers.iter().map(|answer| answer.response).collect()
    }
}

impl Listener for Results {
    fn hear(&self, told: &Told) -> bool {
        let Some(place) = self.places.get(&told.order_id) else { return true };
        let mut answers = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = &mut answers[*place];
        if answer.settled {
            return true;
        }
        answer.failed_attempts += u32::from(told.news == News::AttemptFailed);
        let product_id = answer.response.product_id;
        answer.response =
            convert::response(told.order_id, product_id, told.data, told.news == News::Finished);
        answer.settled = told.news != News::AttemptFailed || answer.failed_attempts >= self.attempts;
        let settled = answer.settled;
        drop(answers);
        if settled && self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.complete.notify_waiters();
        }
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_leave_in_time() {
        let within = |millis| answer_within(Duration::from_millis(millis)).as_millis();
        assert_eq!(
            [within(10_000), within(4000), within(2000), within(1000), within(10)],
            [9800, 3800, 1800, 900, 9]
        );
    }

    #[test]
    fn an_order_is_answered_once_finished_or_out_of_attempts() {
        let told = |news| Told { order_id: 7, data: None, news };
        let results = Results::new(&[(7, 1)], 2);
        assert!(!results.hear(&told(News::AttemptFailed)));
        assert!(results.hear(&told(News::AttemptFailed)));
        assert_eq!(results.open.load(Ordering::Relaxed), 0);
        assert!(results.hear(&told(News::Finished)), "too late: the answer is settled");
        assert!(!results.responses()[0].is_processed);
    }
}
