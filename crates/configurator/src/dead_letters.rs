//! Manual removal of a message that crashes its integration: moves it to the dead letters,
//! and answers its block.

use std::time::Duration;

use queue::fifo::{
    FifoEngine, FifoError, FifoMessage, FifoQueue, MAX_RECEIVE_WAIT_TIME, MAX_RECEIVED_MESSAGES,
    NewFifoMessage, Result, build_dead_letter,
};
use serde_json::json;
use tokio::time::Instant;

use crate::ids::BlockId;
use crate::protocol::{
    ANSWER_JOB_NAME, BlockAnswer, BlockFailure, JOB_NAME_ATTRIBUTE, parse_message_body,
};
use crate::template::Env;

/// Visibility timeout of the messages received during the search.
const SEARCH_VISIBILITY_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum long-poll time of one receive.
const MAX_RECEIVE_WAIT: Duration = Duration::from_secs(5);

/// The message to bury, and where to find it.
#[derive(Debug, Clone)]
pub struct BuryMessageOptions {
    /// The integration's queue, without environment and suffix.
    pub queue: String,
    /// The environment of the queues.
    pub env: Env,
    /// The queue of answers, without environment and suffix.
    pub answer_queue: String,
    /// The message's `block_id`.
    pub block_id: BlockId,
    /// Time limit of the search: a message in flight becomes visible only
    /// after its visibility timeout.
    pub search_timeout: Duration,
}

/// Searches for the message and buries it. Returns its previous receive count, or `None` if
/// it was not received in time. Only the first message of each group can be found. All
/// other messages are returned.
pub async fn bury_message_by_id(
    engine: std::sync::Arc<dyn FifoEngine>,
    options: &BuryMessageOptions,
) -> Result<Option<u32>> {
    let queue = engine.open_queue(&options.env.queue_name(&options.queue)).await?;
    let answers = engine.open_queue(&options.env.queue_name(&options.answer_queue)).await?;
    // Fails without a dead-letter queue: a manually buried message must not be lost.
    let dead = engine.open_queue(&options.env.dead_letter_queue_name(&options.queue)).await?;
    let (deadline, mut others) = (Instant::now() + options.search_timeout, Vec::new());
    let mut found = Ok(None);
    while Instant::now() < deadline {
        let wait = MAX_RECEIVE_WAIT.min(MAX_RECEIVE_WAIT_TIME).min(deadline - Instant::now());
        let received =
            match queue.receive(MAX_RECEIVED_MESSAGES, wait, Some(SEARCH_VISIBILITY_TIMEOUT)).await
            {
                Ok(received) => received,
                Err(error) => {
                    found = Err(error);
                    break;
                }
            };
        let (matching, rest): (Vec<FifoMessage>, Vec<FifoMessage>) =
            received.into_iter().partition(|message| {
                parse_message_body(&message.body)
                    .is_some_and(|found| found.block_id == options.block_id)
            });
        others.extend(rest);
        let mut matching = matching.into_iter();
        if let Some(message) = matching.next() {
            found = answer_and_bury(
                queue.as_ref(),
                answers.as_ref(),
                dead.as_ref(),
                &message,
                options.block_id,
            )
            .await;
            others.extend(matching);
            break;
        }
    }
    for message in others {
        // After a failure the message is redelivered when its visibility timeout ends.
        let _ = queue.change_visibility(&message.receipt, Duration::ZERO).await;
    }
    found
}

/// Idempotent: the answer is sent first, the message deleted last.
async fn answer_and_bury(
    queue: &dyn FifoQueue,
    answers: &dyn FifoQueue,
    dead: &dyn FifoQueue,
    message: &FifoMessage,
    block_id: BlockId,
) -> Result<Option<u32>> {
    let reason = "buried by hand: its integration did not come to an end with it";
    let failure = BlockFailure::new("INTERNAL_ERROR", json!({"reason": reason}));
    let answer = NewFifoMessage {
        group: message.group.clone(),
        deduplication_id: format!("buried/{block_id}"),
        body: BlockAnswer { block_id, outcome: Err(failure) }.to_body(),
        attributes: [(JOB_NAME_ATTRIBUTE.to_owned(), ANSWER_JOB_NAME.to_owned())].into(),
    };
    answers.send(answer).await?;
    dead.send(build_dead_letter(message, reason)).await?;
    match queue.delete(&message.receipt).await {
        Ok(()) | Err(FifoError::ReceiptExpired) => {
            Ok(Some(message.receive_count.saturating_sub(1)))
        }
        Err(error) => Err(error),
    }
}
