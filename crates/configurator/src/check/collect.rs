//! Receives answers while the checks go on: those to the kit are kept, all others given back at once.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use queue::fifo::{FifoQueue, MOST_RECEIVED, Message};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::protocol::numbered;

/// The wait of one receive.
const WAIT: Duration = Duration::from_secs(1);
/// How long an answer is kept from others until it is known whose it is.
const KEPT: Duration = Duration::from_secs(5);
/// The pause after others' answers were given back: whoever waits for them has them by then.
const LEFT_ALONE: Duration = Duration::from_millis(30);
/// What has waited longer than this, nobody waits for: it is not looked at again so soon.
const OLD: TimeDelta = TimeDelta::seconds(10);
/// How soon.
const OLD_AGAIN: Duration = Duration::from_secs(1);
/// The pause after the queue did not answer.
const PAUSE: Duration = Duration::from_millis(500);

/// An answer as it came.
#[derive(Debug, Clone)]
pub(super) struct Came {
    pub(super) text: String,
    pub(super) attributes: BTreeMap<String, String>,
    /// By the queue's clock.
    pub(super) sent_at: DateTime<Utc>,
}

/// What has been answered so far.
pub(super) struct Collected {
    /// The kit's numbers.
    numbers: Range<i64>,
    /// What its groups begin with.
    groups: String,
    came: Mutex<HashMap<i64, Vec<Came>>>,
    /// Answers in the kit's groups that do not say what they answer.
    nameless: Mutex<Vec<Came>>,
    count: watch::Sender<usize>,
}

impl Collected {
    pub(super) fn new(numbers: Range<i64>, groups: String) -> Self {
        let (came, nameless) = Default::default();
        Self { numbers, groups, came, nameless, count: watch::Sender::new(0) }
    }

    /// Collects until `stop`. A receive under way is finished: what it brings would be lost for a while.
    pub(super) async fn run(self: Arc<Self>, answers: Arc<dyn FifoQueue>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let Ok(received) = answers.receive(MOST_RECEIVED, WAIT, Some(KEPT)).await else {
                sleep(PAUSE).await;
                continue;
            };
            let mut given_back = false;
            for message in received {
                // If that fails it comes again: it is known then, or another one's.
                let _ = if self.take(&message) {
                    answers.delete(&message.receipt).await
                } else {
                    given_back = true;
                    let again = if Utc::now() - message.sent_at > OLD { OLD_AGAIN } else { Duration::ZERO };
                    answers.change_visibility(&message.receipt, again).await
                };
            }
            if given_back {
                sleep(LEFT_ALONE).await;
            }
        }
    }

    /// Whether it is the kit's.
    fn take(&self, message: &Message) -> bool {
        let number = numbered(&message.body).map(|found| found.block_id);
        let number = number.filter(|number| self.numbers.contains(number));
        let came = Came {
            text: message.body.clone(),
            attributes: message.attributes.clone(),
            sent_at: message.sent_at,
        };
        match number {
            Some(number) => {
                self.came
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .entry(number)
                    .or_default()
                    .push(came);
            }
            None if message.group.starts_with(&self.groups) => {
                self.nameless.lock().unwrap_or_else(PoisonError::into_inner).push(came);
            }
            None => return false,
        }
        self.count.send_modify(|count| *count += 1);
        true
    }

    /// The answers to this number so far.
    pub(super) fn to(&self, number: i64) -> Vec<Came> {
        let came = self.came.lock().unwrap_or_else(PoisonError::into_inner);
        came.get(&number).cloned().unwrap_or_default()
    }

    /// All answers so far, with their numbers.
    pub(super) fn all(&self) -> Vec<(Option<i64>, Came)> {
        let came = self.came.lock().unwrap_or_else(PoisonError::into_inner);
        let nameless = self.nameless.lock().unwrap_or_else(PoisonError::into_inner);
        let named =
            came.iter().flat_map(|(number, came)| came.iter().map(|came| (Some(*number), came.clone())));
        named.chain(nameless.iter().map(|came| (None, came.clone()))).collect()
    }

    /// Grows with every answer.
    pub(super) fn counted(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }
}
