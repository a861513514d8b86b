//! A consumer: receives, keeps what is in work from others for as long as that takes, and settles it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use store::Outage;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    FifoError, FifoQueue, LONGEST_WAIT, MOST_ATTRIBUTES, MOST_BYTES, MOST_RECEIVED, Message, NewMessage,
    Result,
};

/// The attribute of a dead letter that says why it is one.
pub const REASON: &str = "Reason";
/// The attribute of a dead letter whose body was cut: how many bytes the message had.
pub const CUT_FROM: &str = "CutFrom";
/// Longest reason, in characters.
const LONGEST_REASON: usize = 1000;
/// The pause after the engine did not answer.
const PAUSE: Duration = Duration::from_millis(500);

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Done: deleted.
    Done,
    /// Left in its group, to be received again after this long.
    Again(Duration),
    /// Given up, with the reason: put among the dead letters.
    Dead(String),
}

/// Does what messages ask for. One may come more than once: effects must be idempotent.
pub trait Consumer: Send + Sync + 'static {
    /// Deals with one message. Dropped at an await when the message has become somebody else's. A panic makes it a dead
    /// letter.
    fn consume(&self, message: &Message) -> impl Future<Output = Verdict> + Send;
}

/// How a consumer works.
#[derive(Debug, Clone, Copy)]
pub struct ConsumerTerms {
    /// Messages in work at a time.
    pub concurrency: usize,
    /// How long others wait for what a dead process had in work; extended three times as often while it works.
    pub visibility: Duration,
    /// How long what is in work may take once the consumer is told to stop; then it is given back.
    pub grace: Duration,
}

/// Where messages come from, and where the dead ones go.
#[derive(Clone)]
pub struct Queues {
    /// The queue.
    pub queue: Arc<dyn FifoQueue>,
    /// Its dead letters.
    pub dead_letters: Arc<dyn FifoQueue>,
}

struct Work<C> {
    queues: Queues,
    consumer: Arc<C>,
    visibility: Duration,
    stopped: CancellationToken,
    outage: Outage,
}

/// Consumes until `stop`, and returns when nothing is in work any more. What a receive under way at that moment brings is
/// received again after the visibility time-out.
pub async fn consume<C: Consumer>(
    queues: Queues,
    consumer: Arc<C>,
    terms: ConsumerTerms,
    stop: CancellationToken,
) {
    let free = Arc::new(Semaphore::new(terms.concurrency));
    let stopped = CancellationToken::new();
    let (visibility, outage) = (terms.visibility, Outage::default());
    let work = Arc::new(Work { queues, consumer, visibility, stopped: stopped.clone(), outage });
    let mut working = JoinSet::new();
    loop {
        let received = tokio::select! {
            () = stop.cancelled() => break,
            received = receive(&work, &free) => received,
        };
        for (messages, permits) in received {
            working.spawn(work.clone().group(messages, permits));
        }
        while working.try_join_next().is_some() {}
    }
    tokio::select! {
        () = async { while working.join_next().await.is_some() {} } => {}
        () = sleep(terms.grace) => {
            stopped.cancel();
            while working.join_next().await.is_some() {}
        }
    }
}

/// What was received, by group, with the room it takes.
async fn receive<C>(work: &Work<C>, free: &Arc<Semaphore>) -> Vec<(Vec<Message>, OwnedSemaphorePermit)> {
    let Ok(first) = free.clone().acquire_owned().await else { return Vec::new() };
    let most = MOST_RECEIVED.min(free.available_permits() + 1);
    drop(first);
    let received = work.queues.queue.receive(most, LONGEST_WAIT, Some(work.visibility)).await;
    let queue = work.queues.queue.name();
    let received = match received {
        Ok(received) => {
            work.outage.worked(|lasted| {
                tracing::info!(queue, seconds = lasted.as_secs(), "the queue answers again");
            });
            received
        }
        Err(error) => {
            work.outage.failed(|failures| {
                tracing::warn!(queue, %error, failures, code = "UNAVAILABLE", "nothing can be received; it is tried again");
            });
            sleep(PAUSE).await;
            return Vec::new();
        }
    };
    let mut groups: Vec<(Vec<Message>, OwnedSemaphorePermit)> = Vec::new();
    for message in received {
        // There is room: only this task takes it.
        let Ok(permit) = free.clone().try_acquire_owned() else { continue };
        match groups.iter_mut().find(|(messages, _)| messages[0].group == message.group) {
            Some((messages, permits)) => {
                messages.push(message);
                permits.merge(permit);
            }
            None => groups.push((vec![message], permit)),
        }
    }
    groups
}

impl<C: Consumer> Work<C> {
    /// Messages of one group, one after another; after one that is not done the others go back.
    async fn group(self: Arc<Self>, messages: Vec<Message>, permits: OwnedSemaphorePermit) {
        let mut rest = messages.as_slice();
        while let Some((message, later)) = rest.split_first() {
            rest = later;
            if !self.one(message, later).await {
                break;
            }
        }
        for message in rest {
            self.give_back(message, Duration::ZERO).await;
        }
        drop(permits);
    }

    /// Whether the message is out of the queue.
    async fn one(&self, message: &Message, later: &[Message]) -> bool {
        let handled = store::panics::caught(self.consumer.consume(message));
        let verdict = tokio::select! {
            verdict = handled => verdict,
            () = self.keep(message, later) => {
                tracing::warn!(queue = self.queues.queue.name(), id = message.id, "a message was taken over while in work");
                return false;
            }
            () = self.stopped.cancelled() => {
                self.give_back(message, Duration::ZERO).await;
                return false;
            }
        };
        match verdict {
            Ok(Verdict::Done) => self.settle(message, None).await,
            Ok(Verdict::Dead(reason)) => self.settle(message, Some(&reason)).await,
            Err(_) => self.settle(message, Some("LOGIC_ERROR: the handler panicked")).await,
            Ok(Verdict::Again(delay)) => {
                self.give_back(message, delay).await;
                false
            }
        }
    }

    /// Keeps messages from others; returns when that has failed.
    async fn keep(&self, message: &Message, later: &[Message]) {
        let mut kept = Instant::now();
        let mut pause = self.visibility / 3;
        loop {
            sleep(pause).await;
            let asked = Instant::now();
            match self.queues.queue.change_visibility(&message.receipt, self.visibility).await {
                Ok(()) => (kept, pause) = (asked, self.visibility / 3),
                Err(FifoError::Expired) => return,
                Err(_) if kept.elapsed() > self.visibility => return,
                Err(_) => pause = PAUSE.min(self.visibility / 10),
            }
            for message in later {
                // If that fails, it is received again: after this one, as it is of the same group.
                let _ = self.queues.queue.change_visibility(&message.receipt, self.visibility).await;
            }
        }
    }

    /// Takes a message out of the queue; whether that was possible.
    async fn settle(&self, message: &Message, reason: Option<&str>) -> bool {
        let by_then = Instant::now() + self.visibility;
        loop {
            let settled = match reason {
                Some(reason) => self.bury(message, reason).await,
                None => self.queues.queue.delete(&message.receipt).await,
            };
            match settled {
                Ok(()) => return true,
                Err(FifoError::Unavailable(_)) if Instant::now() < by_then => sleep(PAUSE).await,
                Err(error) => {
                    // It comes again, and is found done.
                    tracing::warn!(queue = self.queues.queue.name(), id = message.id, %error, "a message was not settled");
                    return false;
                }
            }
        }
    }

    /// The dead letter first: a message is nowhere at no time, and a repeated letter is the same letter.
    async fn bury(&self, message: &Message, reason: &str) -> Result<()> {
        metrics::counter!("fifo_dead_letters_total", "queue" => self.queues.queue.name().to_owned())
            .increment(1);
        self.queues.dead_letters.send(dead_letter(message, reason)).await?;
        self.queues.queue.delete(&message.receipt).await
    }

    async fn give_back(&self, message: &Message, delay: Duration) {
        // If that fails, others have it, or get it after the time-out.
        let _ = self.queues.queue.change_visibility(&message.receipt, delay).await;
    }
}

/// The message with the reason beside it. What leaves no room for that is cut, so that every message can be buried: first the
/// attributes that are too many or too large, then the end of the body.
pub fn dead_letter(message: &Message, reason: &str) -> NewMessage {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let reason: String = reason.chars().take(LONGEST_REASON).map(plain).collect();
    let reason = if reason.is_empty() { "unknown".to_owned() } else { reason };
    let mut attributes = message.attributes.clone();
    attributes.retain(|name, _| name != REASON && name != CUT_FROM);
    let size = |name: &str, value: &str| name.len() + value.len();
    let mut used: usize = attributes.iter().map(|(name, value)| size(name, value)).sum();
    while attributes.len() > MOST_ATTRIBUTES - 2 || used > MOST_BYTES / 2 {
        let Some((name, value)) = attributes.pop_last() else { break };
        used -= size(&name, &value);
    }
    used += size(REASON, &reason);
    attributes.insert(REASON.to_owned(), reason);
    let mut body = message.body.clone();
    if used + body.len() > MOST_BYTES {
        let from = body.len().to_string();
        body.truncate(body.floor_char_boundary(MOST_BYTES - used - size(CUT_FROM, &from)));
        attributes.insert(CUT_FROM.to_owned(), from);
    }
    NewMessage { group: message.group.clone(), deduplication: message.id.clone(), body, attributes }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::Utc;

    use super::super::Receipt;
    use super::*;

    fn message(body: String, attributes: BTreeMap<String, String>) -> Message {
        Message {
            id: "id".to_owned(),
            group: "g".to_owned(),
            deduplication: "d".to_owned(),
            sequence: 1,
            body,
            attributes,
            sent_at: Utc::now(),
            receives: 1,
            first_received_at: None,
            receipt: Receipt("r".to_owned()),
        }
    }

    #[test]
    fn every_message_that_can_be_sent_can_be_buried() {
        let attributes = |count: usize, bytes: usize| -> BTreeMap<String, String> {
            (0..count).map(|n| (format!("a{n}"), "v".repeat(bytes))).collect()
        };
        for (body, beside) in [
            ("b".repeat(MOST_BYTES), attributes(0, 0)),
            ("ü".repeat(MOST_BYTES / 2), attributes(0, 0)),
            ("b".to_owned(), attributes(10, 104_000)),
            ("b".repeat(MOST_BYTES - 40), attributes(10, 1)),
        ] {
            let message = message(body, beside);
            let letter = dead_letter(&message, &"x\0".repeat(2000));
            letter.check().unwrap();
            assert!(message.body.starts_with(&letter.body), "its beginning");
            let cut = (letter.body.len() < message.body.len()).then(|| message.body.len().to_string());
            assert_eq!(letter.attributes.get(CUT_FROM), cut.as_ref());
            assert!(letter.attributes[REASON].starts_with("x "));
        }
        let small = dead_letter(&message("whole".to_owned(), attributes(3, 3)), "reason");
        assert_eq!((small.body.as_str(), small.attributes.len()), ("whole", 4));
    }
}
