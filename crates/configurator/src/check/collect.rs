//! The receiver of answers during the checks: keeps those for the kit,
//! returns all others immediately.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use queue::fifo::{FifoMessage, FifoQueue, MAX_RECEIVED_MESSAGES};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::ids::BlockId;
use crate::protocol::parse_message_body;

/// Long-poll time of one receive.
const RECEIVE_WAIT_TIMEOUT: Duration = Duration::from_secs(1);
/// Visibility timeout of received answers, until their owner is known.
const ANSWER_VISIBILITY_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after answers were returned, so that their consumer receives them first.
const RETURNED_ANSWER_DELAY: Duration = Duration::from_millis(30);
/// Above this age an answer presumably has no waiting consumer, and is returned with a delay.
const STALE_ANSWER_AGE: TimeDelta = TimeDelta::seconds(10);
/// Redelivery delay of such answers.
const STALE_ANSWER_DELAY: Duration = Duration::from_secs(1);
/// Pause after a failed receive.
const RECEIVE_RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// An answer message as received.
#[derive(Debug, Clone)]
pub(super) struct CollectedAnswer {
    pub(super) body: String,
    pub(super) attributes: BTreeMap<String, String>,
    /// Send time by the queue's clock.
    pub(super) sent_at: DateTime<Utc>,
}

/// The answers received so far.
pub(super) struct AnswerCollector {
    /// The session's range of `block_id`s.
    block_ids: Range<BlockId>,
    /// Prefix of the session's message groups.
    group_prefix: String,
    answers: Mutex<HashMap<BlockId, Vec<CollectedAnswer>>>,
    /// Answers in the session's groups without a readable `block_id`.
    unnumbered_answers: Mutex<Vec<CollectedAnswer>>,
    answer_count: watch::Sender<usize>,
}

impl AnswerCollector {
    pub(super) fn new(numbers: Range<BlockId>, groups: String) -> Self {
        let (came, nameless) = Default::default();
        Self {
            block_ids: numbers,
            group_prefix: groups,
            answers: came,
            unnumbered_answers: nameless,
            answer_count: watch::Sender::new(0),
        }
    }

    /// Collects until `stop`. Completes a receive in progress: its messages would otherwise stay
    /// invisible until their visibility timeout.
    pub(super) async fn run(self: Arc<Self>, answers: Arc<dyn FifoQueue>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let Ok(received) = answers
                .receive(
                    MAX_RECEIVED_MESSAGES,
                    RECEIVE_WAIT_TIMEOUT,
                    Some(ANSWER_VISIBILITY_TIMEOUT),
                )
                .await
            else {
                sleep(RECEIVE_RETRY_INTERVAL).await;
                continue;
            };
            let mut given_back = false;
            for message in received {
                // After a failure the message is redelivered, to the kit as a repetition
                // or to its consumer.
                let _ = if self.take_own_answer(&message) {
                    answers.delete(&message.receipt).await
                } else {
                    given_back = true;
                    let redelivery_delay = if Utc::now() - message.sent_at > STALE_ANSWER_AGE {
                        STALE_ANSWER_DELAY
                    } else {
                        Duration::ZERO
                    };
                    answers.change_visibility(&message.receipt, redelivery_delay).await
                };
            }
            if given_back {
                sleep(RETURNED_ANSWER_DELAY).await;
            }
        }
    }

    /// Keeps an answer to the kit; `false` if it is not one.
    fn take_own_answer(&self, message: &FifoMessage) -> bool {
        let block_id = parse_message_body(&message.body).map(|found| found.block_id);
        let block_id = block_id.filter(|number| self.block_ids.contains(number));
        let answer = CollectedAnswer {
            body: message.body.clone(),
            attributes: message.attributes.clone(),
            sent_at: message.sent_at,
        };
        match block_id {
            Some(block_id) => {
                self.answers
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .entry(block_id)
                    .or_default()
                    .push(answer);
            }
            None if message.group.starts_with(&self.group_prefix) => {
                self.unnumbered_answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
            }
            None => return false,
        }
        self.answer_count.send_modify(|count| *count += 1);
        true
    }

    /// All answers to this `block_id` so far.
    pub(super) fn answers_to(&self, block_id: BlockId) -> Vec<CollectedAnswer> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(&block_id).cloned().unwrap_or_default()
    }

    /// All answers so far, with their `block_id` if it is readable.
    pub(super) fn all_answers(&self) -> Vec<(Option<BlockId>, CollectedAnswer)> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let unnumbered_answers =
            self.unnumbered_answers.lock().unwrap_or_else(PoisonError::into_inner);
        let numbered = answers
            .iter()
            .flat_map(|(block_id, came)| came.iter().map(|came| (Some(*block_id), came.clone())));
        numbered.chain(unnumbered_answers.iter().map(|answer| (None, answer.clone()))).collect()
    }

    /// The number of answers; changes with every new one.
    pub(super) fn subscribe_count(&self) -> watch::Receiver<usize> {
        self.answer_count.subscribe()
    }
}
