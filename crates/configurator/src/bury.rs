//! A way out when an integration dies of one message: that is put among the dead letters, by hand, and its block is answered.

use std::time::Duration;

use queue::fifo::{
    FifoEngine, FifoError, FifoQueue, LONGEST_WAIT, MOST_RECEIVED, Message, NewMessage, Result, dead_letter,
};
use serde_json::json;
use tokio::time::Instant;

use crate::protocol::{ANSWER, Answer, Failure, JOB_NAME, numbered};
use crate::template::Env;

/// How long messages are kept from others while the one is looked for.
const KEPT: Duration = Duration::from_secs(60);
/// The longest wait of one look.
const WAIT: Duration = Duration::from_secs(5);

/// Which message.
#[derive(Debug, Clone)]
pub struct Burial {
    /// The integration's queue, without environment and ending.
    pub queue: String,
    /// The environment.
    pub env: Env,
    /// The queue of answers, without environment and ending.
    pub answers: String,
    /// The message's number.
    pub block_id: i64,
    /// How long it is looked for: one that an integration has in hand comes back after its visibility time-out.
    pub within: Duration,
}

/// Looks for the message and buries it; how often it had been received before, or `None` if it did not come. Only the first
/// message of each group can be found. All others are given back.
pub async fn bury(engine: std::sync::Arc<dyn FifoEngine>, burial: &Burial) -> Result<Option<u32>> {
    let queue = engine.open(&burial.env.queue(&burial.queue)).await?;
    let answers = engine.open(&burial.env.queue(&burial.answers)).await?;
    // By hand, a message is moved or stays: it is never let go because there is no place for it.
    let dead = engine.open(&burial.env.dead_letters(&burial.queue)).await?;
    let (by_then, mut others) = (Instant::now() + burial.within, Vec::new());
    let mut found = Ok(None);
    while Instant::now() < by_then {
        let wait = WAIT.min(LONGEST_WAIT).min(by_then - Instant::now());
        let received = match queue.receive(MOST_RECEIVED, wait, Some(KEPT)).await {
            Ok(received) => received,
            Err(error) => {
                found = Err(error);
                break;
            }
        };
        let (its, rest): (Vec<Message>, Vec<Message>) = received.into_iter().partition(|message| {
            numbered(&message.body).is_some_and(|found| found.block_id == burial.block_id)
        });
        others.extend(rest);
        let mut its = its.into_iter();
        if let Some(message) = its.next() {
            found = settle(queue.as_ref(), answers.as_ref(), dead.as_ref(), &message, burial.block_id).await;
            others.extend(its);
            break;
        }
    }
    for message in others {
        // If that fails, it is received again after the time-out.
        let _ = queue.change_visibility(&message.receipt, Duration::ZERO).await;
    }
    found
}

/// The answer first, and the message deleted last: repeated, it does the same.
async fn settle(
    queue: &dyn FifoQueue,
    answers: &dyn FifoQueue,
    dead: &dyn FifoQueue,
    message: &Message,
    block_id: i64,
) -> Result<Option<u32>> {
    let reason = "buried by hand: its integration did not come to an end with it";
    let failure = Failure::new("INTERNAL_ERROR", json!({"reason": reason}));
    let answer = NewMessage {
        group: message.group.clone(),
        deduplication: format!("buried/{block_id}"),
        body: Answer { block_id, outcome: Err(failure) }.body(),
        attributes: [(JOB_NAME.to_owned(), ANSWER.to_owned())].into(),
    };
    answers.send(answer).await?;
    dead.send(dead_letter(message, reason)).await?;
    match queue.delete(&message.receipt).await {
        Ok(()) | Err(FifoError::Expired) => Ok(Some(message.receives.saturating_sub(1))),
        Err(error) => Err(error),
    }
}
