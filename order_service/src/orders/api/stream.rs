//! `ProcessOrderStream`: a bidirectional stream; each order is answered when it finishes.
//!
//! Backpressure: at most [`MAX_UNANSWERED_ORDERS`] orders of a stream are in flight or unread by
//! the client. At the limit the stream is not read until the client reads an answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use proto::order_service::process_orders_request::OrderRequest;
use proto::order_service::process_orders_response::OrderResponse;
use store::FairTurn;
use store::panics::catch_panic;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::process::follow_accepted_orders;
use super::{OrderApiState, convert};
use crate::orders::db::{OutcomeKind, OutcomeNotice};
use crate::orders::outcome_hub::{OutcomeSubscriber, OutcomeSubscription};
use crate::orders::{NewOrder, OrderId, ProductId};

/// Maximum number of orders of one stream in flight or unread by the client.
const MAX_UNANSWERED_ORDERS: usize = 1000;
/// Maximum number of orders accepted in one call, if they arrived fast enough.
const MAX_ORDERS_PER_ACCEPT: usize = 256;

type OrderStreamItem = Result<(OrderResponse, Option<OwnedSemaphorePermit>), Status>;

/// Starts processing a stream. Each order has `order_timeout` from its acceptance; the
/// stream ends at `deadline`.
pub(super) fn process_order_stream(
    api_state: OrderApiState,
    orders: Streaming<OrderRequest>,
    order_timeout: Duration,
    deadline: Option<Instant>,
) -> impl Stream<Item = Result<OrderResponse, Status>> {
    let (answers, receiver) = mpsc::channel::<OrderStreamItem>(MAX_UNANSWERED_ORDERS + 1);
    tokio::spawn(async move {
        let session = OrderStreamSession {
            api_state,
            answers: answers.clone(),
            order_timeout,
            deadline,
            turn: FairTurn::next(),
        };
        let result = catch_panic(session.run(orders)).await.unwrap_or_else(|_| {
            Err(Status::internal("the stream failed by a fault of the service: see its log"))
        });
        if let Err(status) = result {
            let _ = answers.send(Err(status)).await;
        }
    });
    // The permit is dropped when the client has read the answer, which makes room for another
    // order.
    tokio_stream::wrappers::ReceiverStream::new(receiver)
        .map(|answer| answer.map(|(response, _permit)| response))
}

struct OrderStreamSession {
    api_state: OrderApiState,
    answers: mpsc::Sender<OrderStreamItem>,
    order_timeout: Duration,
    deadline: Option<Instant>,
    /// Shared by all orders of the stream.
    turn: FairTurn,
}

impl OrderStreamSession {
    async fn run(&self, orders: Streaming<OrderRequest>) -> Result<(), Status> {
        let open_request = self.api_state.open_requests.track_request();
        let capacity = Arc::new(Semaphore::new(MAX_UNANSWERED_ORDERS));
        let mut orders =
            orders.ready_chunks(MAX_ORDERS_PER_ACCEPT.min(self.api_state.limits.max_in_flight));
        let mut answer_tasks = tokio::task::JoinSet::new();
        loop {
            let chunk = tokio::select! {
                chunk = orders.next() => chunk,
                // The client has disconnected or stopped reading.
                () = self.answers.closed() => return Ok(()),
                () = self.api_state.stopping.cancelled() => break,
            };
            let Some(chunk) = chunk else { break };
            let chunk: Vec<OrderRequest> = chunk.into_iter().collect::<Result<_, _>>()?;
            // Repetitions of an order go into a later batch: it is answered once per occurrence.
            let mut batches: Vec<Vec<NewOrder>> = Vec::new();
            for order in chunk {
                let order = convert::from_wire_order_request(&order);
                let without_order = batches
                    .iter_mut()
                    .find(|batch| batch.iter().all(|earlier| earlier.order_id != order.order_id));
                match without_order {
                    Some(batch) => batch.push(order),
                    None => batches.push(vec![order]),
                }
            }
            for batch in batches {
                self.accept_orders(batch, &capacity, &mut answer_tasks).await?;
            }
            while answer_tasks.try_join_next().is_some() {}
        }
        while answer_tasks.join_next().await.is_some() {}
        drop(open_request);
        // Accepted orders are answered; during shutdown the stream then ends with `UNAVAILABLE`.
        Ok(self.api_state.check_running()?)
    }

    /// Accepts orders and spawns a task that awaits them, while the stream is read further.
    async fn accept_orders(
        &self,
        orders: Vec<NewOrder>,
        capacity: &Arc<Semaphore>,
        answer_tasks: &mut tokio::task::JoinSet<()>,
    ) -> Result<(), Status> {
        let permits = u32::try_from(orders.len()).unwrap_or(u32::MAX);
        let Ok(permits) = capacity.clone().acquire_many_owned(permits).await else { return Ok(()) };
        let admission =
            self.api_state.wait_for_admission(orders.len(), self.order_timeout, self.turn).await?;
        let ids: Vec<OrderId> = orders.iter().map(|order| order.order_id).collect();
        let (notices, notice_receiver) = mpsc::unbounded_channel();
        let subscriber: Arc<dyn OutcomeSubscriber> = Arc::new(OrderStreamSubscriber {
            notices,
            failed_attempts: Mutex::default(),
            max_attempts: self.api_state.limits.max_attempts,
        });
        let subscription = self.api_state.outcome_hub.subscribe(&subscriber, ids);
        let accepted = self.api_state.acceptor.accept(orders.clone(), admission.clone()).await;
        let accepted = accepted.map_err(|error| Status::from(convert::accept_api_error(error)))?;
        follow_accepted_orders(&self.api_state, &*subscriber, accepted);
        let order_deadline = Instant::now() + self.order_timeout;
        let answer_at =
            self.deadline.map_or(order_deadline, |deadline| deadline.min(order_deadline));
        let (answers, closing) = (self.answers.clone(), self.api_state.closing.clone());
        answer_tasks.spawn(async move {
            let _admission = admission;
            let time_is_up = async move {
                tokio::select! {
                    () = tokio::time::sleep_until(answer_at) => {}
                    () = closing.cancelled() => {}
                }
            };
            answer_orders(orders, notice_receiver, subscription, permits, answers, time_is_up)
                .await;
        });
        Ok(())
    }
}

/// Answers each order on its outcome notice, the rest when `time_is_up` resolves.
async fn answer_orders(
    orders: Vec<NewOrder>,
    mut notices: mpsc::UnboundedReceiver<OutcomeNotice>,
    subscription: OutcomeSubscription,
    mut permits: OwnedSemaphorePermit,
    answers: mpsc::Sender<OrderStreamItem>,
    time_is_up: impl Future<Output = ()>,
) {
    tokio::pin!(time_is_up);
    let mut pending_orders: HashMap<OrderId, ProductId> =
        orders.into_iter().map(|order| (order.order_id, order.product_id)).collect();
    while !pending_orders.is_empty() {
        let notice = tokio::select! {
            told = notices.recv() => told,
            () = &mut time_is_up => break,
        };
        let Some(notice) = notice else { break };
        let Some(product_id) = pending_orders.remove(&notice.order_id) else { continue };
        let response = convert::order_response(
            NewOrder { order_id: notice.order_id, product_id },
            notice.data,
            notice.kind == OutcomeKind::Finished,
        );
        if answers.send(Ok((response, permits.split(1)))).await.is_err() {
            return;
        }
    }
    drop(subscription);
    for (order_id, product_id) in pending_orders {
        let response = convert::order_response(NewOrder { order_id, product_id }, None, false);
        if answers.send(Ok((response, permits.split(1)))).await.is_err() {
            return;
        }
    }
}

/// Forwards the final notice of each order. The channel is unbounded, but holds
/// one notice per order.
struct OrderStreamSubscriber {
    notices: mpsc::UnboundedSender<OutcomeNotice>,
    failed_attempts: Mutex<HashMap<OrderId, u32>>,
    max_attempts: u32,
}

impl OutcomeSubscriber for OrderStreamSubscriber {
    fn on_outcome(&self, notice: &OutcomeNotice) -> bool {
        if notice.kind == OutcomeKind::AttemptFailed {
            let mut failed = self.failed_attempts.lock().unwrap_or_else(PoisonError::into_inner);
            let count = failed.entry(notice.order_id).or_default();
            *count += 1;
            if *count < self.max_attempts {
                return false;
            }
        }
        let _ = self.notices.send(*notice);
        true
    }
}
