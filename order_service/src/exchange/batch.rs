//! Questions in batches: whatever was asked while earlier calls were on their way goes in the next one.

use std::collections::HashMap;
use std::sync::Arc;

use proto::data_manager::GetOrdersDataCallbackRequest;
use proto::data_manager::data_manager_client::DataManagerClient;
use serving::peer::OptionalCall;
use store::{Fair, Turn};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tonic::{Code, Status};

use super::client::Guarded;
use super::is_permanent;

/// Most questions in one call.
const MOST: usize = 500;
/// Calls on their way at a time; more questions wait for the next one.
const CALLS: usize = 64;

/// `None`: the peer has no batch call, ask singly.
type Answer = Option<Result<(), Status>>;

struct Question {
    order_id: i32,
    answer: oneshot::Sender<Answer>,
}

/// Asks in batches.
#[derive(Clone)]
pub(super) struct Questions(mpsc::Sender<(Turn, Question)>);

impl Questions {
    /// Starts the task that gathers questions.
    pub(super) fn start(client: DataManagerClient<Guarded>, batches: OptionalCall) -> Self {
        let (questions, mut asked) = mpsc::channel(65_536);
        let calls = Arc::new(Semaphore::new(CALLS));
        tokio::spawn(async move {
            let mut waiting = Fair::default();
            loop {
                let Ok(call) = calls.clone().acquire_owned().await else { return };
                if !gather(&mut waiting, &mut asked).await {
                    return;
                }
                let batch = waiting.take(MOST);
                let (client, batches) = (client.clone(), batches.clone());
                tokio::spawn(async move {
                    ask_all(client, &batches, batch).await;
                    drop(call);
                });
            }
        });
        Self(questions)
    }

    /// Asks for one order as part of some batch.
    pub(super) async fn ask(&self, turn: Turn, order_id: i32) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.0.send((turn, Question { order_id, answer })).await.ok()?;
        answered.await.unwrap_or(None)
    }
}

/// Lets all who have come take their turns; waits if there is nobody. False when nobody will come any more.
async fn gather(waiting: &mut Fair<Question>, asked: &mut mpsc::Receiver<(Turn, Question)>) -> bool {
    if waiting.is_empty()
        && let Some((turn, question)) = asked.recv().await
    {
        waiting.push(turn, question);
    }
    while let Ok((turn, question)) = asked.try_recv() {
        waiting.push(turn, question);
    }
    !waiting.is_empty()
}

async fn ask_all(mut client: DataManagerClient<Guarded>, batches: &OptionalCall, batch: Vec<Question>) {
    let order_ids = batch.iter().map(|question| question.order_id).collect();
    let answer = client.get_orders_data_callback(GetOrdersDataCallbackRequest { order_ids }).await;
    let answer = match answer {
        // Of one order this would be a verdict for good. Of a batch it says only that the peer does not take batches,
        // or not this one: each order has its own answer, asked for by itself.
        Err(status) if is_permanent(status.code()) => {
            if batches.note_lacking() {
                tracing::info!(code = ?status.code(), reason = status.message(),
                    "the data manager takes no batches: asking one by one");
            }
            batch.into_iter().for_each(|question| drop(question.answer.send(None)));
            return;
        }
        answer => answer.map(tonic::Response::into_inner),
    };
    let mut refused: HashMap<i32, Status> = HashMap::new();
    for error in answer.iter().flat_map(|answer| &answer.errors) {
        refused.insert(error.order_id, Status::new(Code::from(error.code), error.message.clone()));
    }
    for Question { order_id, answer: waiting } in batch {
        let outcome = match &answer {
            Err(status) => Err(status.clone()),
            Ok(_) => refused.remove(&order_id).map_or(Ok(()), Err),
        };
        // The order may have its data already.
        let _ = waiting.send(Some(outcome));
    }
}
