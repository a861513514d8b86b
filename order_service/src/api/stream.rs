//! `ProcessOrderStream`: orders come in one by one and are answered as they finish.
//!
//! Back-pressure: at most [`UNANSWERED`] orders of a stream are in work or wait to be read by the client; until one of
//! them is gone, the stream is not read on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use proto::order_service::process_orders_request::OrderRequest;
use proto::order_service::process_orders_response::OrderResponse;
use store::Turn;
use store::panics::caught;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::process::take_up;
use super::{Rooms, convert};
use crate::orders::{News, Told};
use crate::watch::{Listener, Listening};

/// Orders of one stream that are not yet read by the client.
const UNANSWERED: usize = 1000;
/// Orders accepted in one go, if they came fast enough.
const TOGETHER: usize = 256;

type Answer = Result<(OrderResponse, Option<OwnedSemaphorePermit>), Status>;

/// Starts processing a stream. Each order has `per_order` from its arrival, the stream itself ends at `deadline`.
pub(super) fn process(
    rooms: Rooms,
    orders: Streaming<OrderRequest>,
    per_order: Duration,
    deadline: Option<Instant>,
) -> impl Stream<Item = Result<OrderResponse, Status>> {
    let (answers, ready) = mpsc::channel::<Answer>(UNANSWERED + 1);
    tokio::spawn(async move {
        let conversation =
            Conversation { rooms, answers: answers.clone(), per_order, deadline, turn: Turn::next() };
        let broken = |_| Err(Status::internal("the stream failed by a fault of the service: see its log"));
        if let Err(status) = caught(conversation.run(orders)).await.unwrap_or_else(broken) {
            let _ = answers.send(Err(status)).await;
        }
    });
    // The permit goes when the client has taken the answer: that makes room for another order.
    tokio_stream::wrappers::ReceiverStream::new(ready)
        .map(|answer| answer.map(|(response, _permit)| response))
}

struct Conversation {
    rooms: Rooms,
    answers: mpsc::Sender<Answer>,
    per_order: Duration,
    deadline: Option<Instant>,
    /// One for all its orders.
    turn: Turn,
}

impl Conversation {
    async fn run(&self, orders: Streaming<OrderRequest>) -> Result<(), Status> {
        let open = self.rooms.open.enter();
        let room = Arc::new(Semaphore::new(UNANSWERED));
        let mut orders = orders.ready_chunks(TOGETHER.min(self.rooms.limits.in_flight));
        let mut waiting = tokio::task::JoinSet::new();
        loop {
            let chunk = tokio::select! {
                chunk = orders.next() => chunk,
                // The client is gone, or will read no more.
                () = self.answers.closed() => return Ok(()),
                () = self.rooms.stopping.cancelled() => break,
            };
            let Some(chunk) = chunk else { break };
            let chunk: Vec<OrderRequest> = chunk.into_iter().collect::<Result<_, _>>()?;
            // One after another: an order that is twice in the stream is answered twice.
            let mut batches: Vec<Vec<(i32, i32)>> = Vec::new();
            for order in chunk {
                let order = (order.order_id, order.product_id);
                match batches.iter_mut().find(|batch| batch.iter().all(|(id, _)| *id != order.0)) {
                    Some(batch) => batch.push(order),
                    None => batches.push(vec![order]),
                }
            }
            for batch in batches {
                self.accept(batch, &room, &mut waiting).await?;
            }
            while waiting.try_join_next().is_some() {}
        }
        while waiting.join_next().await.is_some() {}
        drop(open);
        // What was accepted is answered; a stream that had more to say hears why it may not.
        Ok(self.rooms.check_running()?)
    }

    /// Accepts orders and lets a task wait for them, so that the stream is read on meanwhile.
    async fn accept(
        &self,
        orders: Vec<(i32, i32)>,
        room: &Arc<Semaphore>,
        waiting: &mut tokio::task::JoinSet<()>,
    ) -> Result<(), Status> {
        let permits = u32::try_from(orders.len()).unwrap_or(u32::MAX);
        let Ok(permits) = room.clone().acquire_many_owned(permits).await else { return Ok(()) };
        let admission = self.rooms.admit_patiently(orders.len(), self.per_order, self.turn).await?;
        let ids: Vec<i32> = orders.iter().map(|(order_id, _)| *order_id).collect();
        let (told, outcomes) = mpsc::unbounded_channel();
        let listener: Arc<dyn Listener> =
            Arc::new(Ears { told, failed: Mutex::default(), attempts: self.rooms.limits.attempts });
        let listening = self.rooms.watch.listen(&listener, ids);
        let accepted = self.rooms.acceptor.accept(orders.clone(), admission.clone()).await;
        let accepted = accepted.map_err(|error| Status::from(convert::accept_error(error)))?;
        take_up(&self.rooms, &*listener, accepted);
        let by_then = Instant::now() + self.per_order;
        let answer_at = self.deadline.map_or(by_then, |deadline| deadline.min(by_then));
        let (answers, closing) = (self.answers.clone(), self.rooms.closing.clone());
        waiting.spawn(async move {
            let _admission = admission;
            let time_is_up = async move {
                tokio::select! {
                    () = tokio::time::sleep_until(answer_at) => {}
                    () = closing.cancelled() => {}
                }
            };
            answer_all(orders, outcomes, listening, permits, answers, time_is_up).await;
        });
        Ok(())
    }
}

/// Answers each order when its outcome is told, the rest when their time is up.
async fn answer_all(
    orders: Vec<(i32, i32)>,
    mut outcomes: mpsc::UnboundedReceiver<Told>,
    listening: Listening,
    mut permits: OwnedSemaphorePermit,
    answers: mpsc::Sender<Answer>,
    time_is_up: impl Future<Output = ()>,
) {
    tokio::pin!(time_is_up);
    let mut open: HashMap<i32, i32> = orders.into_iter().collect();
    while !open.is_empty() {
        let told = tokio::select! {
            told = outcomes.recv() => told,
            () = &mut time_is_up => break,
        };
        let Some(told) = told else { break };
        let Some(product_id) = open.remove(&told.order_id) else { continue };
        let response = convert::response(told.order_id, product_id, told.data, told.news == News::Finished);
        if answers.send(Ok((response, permits.split(1)))).await.is_err() {
            return;
        }
    }
    drop(listening);
    for (order_id, product_id) in open {
        let response = convert::response(order_id, product_id, None, false);
        if answers.send(Ok((response, permits.split(1)))).await.is_err() {
            return;
        }
    }
}

/// Passes on what settles an order. Unbounded, but each order is told once.
struct Ears {
    told: mpsc::UnboundedSender<Told>,
    failed: Mutex<HashMap<i32, u32>>,
    attempts: u32,
}

impl Listener for Ears {
    fn hear(&self, told: &Told) -> bool {
        if told.news == News::AttemptFailed {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            let count = failed.entry(told.order_id).or_default();
            *count += 1;
            if *count < self.attempts {
                return false;
            }
        }
        let _ = self.told.send(*told);
        true
    }
}
