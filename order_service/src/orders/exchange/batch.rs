//! Coalescing of questions: those that arrive while calls are in flight share the next batch call.

use std::collections::HashMap;
use std::sync::Arc;

use proto::data_manager::GetOrdersDataCallbackRequest;
use proto::data_manager::data_manager_client::DataManagerClient;
use serving::peer::OptionalCall;
use store::{FairQueue, FairTurn};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tonic::{Code, Status};

use super::client::BreakerChannel;
use super::is_permanent;
use crate::orders::OrderId;

/// Maximum number of questions in one batch call.
const MAX_QUESTIONS_PER_CALL: usize = 500;
/// Maximum number of batch calls in flight; further questions wait.
const MAX_BATCH_CALLS: usize = 64;

/// `None`: the peer has no batch call, use the single call.
type DataManagerAnswer = Option<Result<(), Status>>;

struct DataManagerQuestion {
    order_id: OrderId,
    reply: oneshot::Sender<DataManagerAnswer>,
}

/// Handle of the batching task.
#[derive(Clone)]
pub(super) struct QuestionBatcher(mpsc::Sender<(FairTurn, DataManagerQuestion)>);

impl QuestionBatcher {
    /// Starts the batching task.
    pub(super) fn start(
        client: DataManagerClient<BreakerChannel>,
        batch_call: OptionalCall,
    ) -> Self {
        let (question_sender, mut question_receiver) = mpsc::channel(65_536);
        let calls = Arc::new(Semaphore::new(MAX_BATCH_CALLS));
        tokio::spawn(async move {
            let mut pending_questions = FairQueue::default();
            loop {
                let Ok(call) = calls.clone().acquire_owned().await else { return };
                if !gather_questions(&mut pending_questions, &mut question_receiver).await {
                    return;
                }
                let batch = pending_questions.pop_many(MAX_QUESTIONS_PER_CALL);
                let (client, batches) = (client.clone(), batch_call.clone());
                tokio::spawn(async move {
                    ask_batch(client, &batches, batch).await;
                    drop(call);
                });
            }
        });
        Self(question_sender)
    }

    /// Asks for one order as part of a batch.
    pub(super) async fn ask(&self, turn: FairTurn, order_id: OrderId) -> DataManagerAnswer {
        let (reply, reply_receiver) = oneshot::channel();
        self.0.send((turn, DataManagerQuestion { order_id, reply })).await.ok()?;
        reply_receiver.await.unwrap_or(None)
    }
}

/// Moves received questions into the fair queue; waits while it is empty. False when
/// the channel is closed.
async fn gather_questions(
    pending_questions: &mut FairQueue<DataManagerQuestion>,
    question_receiver: &mut mpsc::Receiver<(FairTurn, DataManagerQuestion)>,
) -> bool {
    if pending_questions.is_empty()
        && let Some((turn, question)) = question_receiver.recv().await
    {
        pending_questions.push(turn, question);
    }
    while let Ok((turn, question)) = question_receiver.try_recv() {
        pending_questions.push(turn, question);
    }
    !pending_questions.is_empty()
}

async fn ask_batch(
    mut client: DataManagerClient<BreakerChannel>,
    batch_call: &OptionalCall,
    batch: Vec<DataManagerQuestion>,
) {
    let order_ids = batch.iter().map(|question| question.order_id.get()).collect();
    let answer = client.get_orders_data_callback(GetOrdersDataCallbackRequest { order_ids }).await;
    let answer = match answer {
        // For a single order this status would be final. For a batch it says only that the peer
        // takes no batches, or not this one: each order is asked for singly.
        Err(status) if is_permanent(status.code()) => {
            if batch_call.mark_lacking() {
                tracing::info!(code = ?status.code(), reason = status.message(),
                    "the data manager takes no batches: asking one by one");
            }
            batch.into_iter().for_each(|question| drop(question.reply.send(None)));
            return;
        }
        answer => answer.map(tonic::Response::into_inner),
    };
    let mut refused_orders: HashMap<OrderId, Status> = HashMap::new();
    for error in answer.iter().flat_map(|answer| &answer.errors) {
        let status = Status::new(Code::from(error.code), error.message.clone());
        refused_orders.insert(error.order_id.into(), status);
    }
    for DataManagerQuestion { order_id, reply } in batch {
        let outcome = match &answer {
            Err(status) => Err(status.clone()),
            Ok(_) => refused_orders.remove(&order_id).map_or(Ok(()), Err),
        };
        // The receiver may be dropped: the order may have its data already.
        let _ = reply.send(Some(outcome));
    }
}
