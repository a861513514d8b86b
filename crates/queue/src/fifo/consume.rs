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
    FifoError, FifoMessage, FifoQueue, MAX_MESSAGE_ATTRIBUTES, MAX_MESSAGE_BYTES,
    MAX_RECEIVE_WAIT_TIME, MAX_RECEIVED_MESSAGES, NewFifoMessage, Result,
};

/// The attribute of a dead letter that says why it is one.
pub const REASON_ATTRIBUTE: &str = "Reason";
/// The attribute of a dead letter whose body was cut: how many bytes the message had.
pub const CUT_FROM_ATTRIBUTE: &str = "CutFrom";
/// Longest reason, in characters.
const MAX_REASON_CHARS: usize = 1000;
/// The pause after the engine did not answer.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageOutcome {
    /// Done: deleted.
    Done,
    /// Left in its group, to be received again after this long.
    RetryAfter(Duration),
    /// Given up, with the reason: put among the dead letters.
    Dead(String),
}

/// Does what messages ask for. One may come more than once: effects must be idempotent.
pub trait FifoConsumer: Send + Sync + 'static {
    /// Deals with one message. Dropped at an await when the message has become somebody else's. A panic makes it a dead
    /// letter.
    fn consume(&self, message: &FifoMessage) -> impl Future<Output = MessageOutcome> + Send;
}

/// How a consumer works.
#[derive(Debug, Clone, Copy)]
pub struct FifoConsumerOptions {
    /// Messages in work at a time.
    pub concurrency: usize,
    /// How long others wait for what a dead process had in work; extended three times as often while it works.
    pub visibility_timeout: Duration,
    /// How long what is in work may take once the consumer is told to stop; then it is given back.
    pub shutdown_timeout: Duration,
}

/// Where messages come from, and where the dead ones go.
#[derive(Clone)]
pub struct FifoQueuePair {
    /// The queue.
    pub queue: Arc<dyn FifoQueue>,
    /// Its dead letters.
    pub dead_letters: Arc<dyn FifoQueue>,
}

struct FifoConsumerTask<C> {
    queues: FifoQueuePair,
    consumer: Arc<C>,
    visibility_timeout: Duration,
    abort: CancellationToken,
    outage: Outage,
}

/// Consumes until `stop`, and returns when nothing is in work any more. What a receive under way at that moment brings is
/// received again after the visibility time-out.
pub async fn consume_messages<C: FifoConsumer>(
    queues: FifoQueuePair,
    consumer: Arc<C>,
    options: FifoConsumerOptions,
    stop: CancellationToken,
) {
    let free = Arc::new(Semaphore::new(options.concurrency));
    let abort = CancellationToken::new();
    let (visibility, outage) = (options.visibility_timeout, Outage::default());
    let work = Arc::new(FifoConsumerTask {
        queues,
        consumer,
        visibility_timeout: visibility,
        abort: abort.clone(),
        outage,
    });
    let mut working = JoinSet::new();
    loop {
        let received = tokio::select! {
            () = stop.cancelled() => break,
            received = receive_groups(&work, &free) => received,
        };
        for (messages, permits) in received {
            working.spawn(work.clone().handle_group(messages, permits));
        }
        while working.try_join_next().is_some() {}
    }
    tokio::select! {
        () = async { while working.join_next().await.is_some() {} } => {}
        () = sleep(options.shutdown_timeout) => {
            abort.cancel();
            while working.join_next().await.is_some() {}
        }
    }
}

/// What was received, by group, with the room it takes.
async fn receive_groups<C>(
    task: &FifoConsumerTask<C>,
    free: &Arc<Semaphore>,
) -> Vec<(Vec<FifoMessage>, OwnedSemaphorePermit)> {
    let Ok(first) = free.clone().acquire_owned().await else { return Vec::new() };
    let max_messages = MAX_RECEIVED_MESSAGES.min(free.available_permits() + 1);
    drop(first);
    let received = task
        .queues
        .queue
        .receive(max_messages, MAX_RECEIVE_WAIT_TIME, Some(task.visibility_timeout))
        .await;
    let queue = task.queues.queue.name();
    let received = match received {
        Ok(received) => {
            task.outage.record_success(|lasted| {
                tracing::info!(queue, seconds = lasted.as_secs(), "the queue answers again");
            });
            received
        }
        Err(error) => {
            task.outage.record_failure(|failures| {
                tracing::warn!(queue, %error, failures, code = "UNAVAILABLE", "nothing can be received; it is tried again");
            });
            sleep(RETRY_INTERVAL).await;
            return Vec::new();
        }
    };
    let mut groups: Vec<(Vec<FifoMessage>, OwnedSemaphorePermit)> = Vec::new();
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

impl<C: FifoConsumer> FifoConsumerTask<C> {
    /// Messages of one group, one after another; after one that is not done the others go back.
    async fn handle_group(
        self: Arc<Self>,
        messages: Vec<FifoMessage>,
        permits: OwnedSemaphorePermit,
    ) {
        let mut rest = messages.as_slice();
        while let Some((message, later)) = rest.split_first() {
            rest = later;
            if !self.handle_message(message, later).await {
                break;
            }
        }
        for message in rest {
            self.return_message(message, Duration::ZERO).await;
        }
        drop(permits);
    }

    /// Whether the message is out of the queue.
    async fn handle_message(&self, message: &FifoMessage, later: &[FifoMessage]) -> bool {
        let handled = store::panics::catch_panic(self.consumer.consume(message));
        let verdict = tokio::select! {
            verdict = handled => verdict,
            () = self.extend_visibility(message, later) => {
                tracing::warn!(queue = self.queues.queue.name(), id = message.id, "a message was taken over while in work");
                return false;
            }
            () = self.abort.cancelled() => {
                self.return_message(message, Duration::ZERO).await;
                return false;
            }
        };
        match verdict {
            Ok(MessageOutcome::Done) => self.settle_message(message, None).await,
            Ok(MessageOutcome::Dead(reason)) => self.settle_message(message, Some(&reason)).await,
            Err(_) => self.settle_message(message, Some("LOGIC_ERROR: the handler panicked")).await,
            Ok(MessageOutcome::RetryAfter(delay)) => {
                self.return_message(message, delay).await;
                false
            }
        }
    }

    /// Keeps messages from others; returns when that has failed.
    async fn extend_visibility(&self, message: &FifoMessage, later: &[FifoMessage]) {
        let mut extended_at = Instant::now();
        let mut wait = self.visibility_timeout / 3;
        loop {
            sleep(wait).await;
            let began = Instant::now();
            match self
                .queues
                .queue
                .change_visibility(&message.receipt, self.visibility_timeout)
                .await
            {
                Ok(()) => (extended_at, wait) = (began, self.visibility_timeout / 3),
                Err(FifoError::ReceiptExpired) => return,
                Err(_) if extended_at.elapsed() > self.visibility_timeout => return,
                Err(_) => wait = RETRY_INTERVAL.min(self.visibility_timeout / 10),
            }
            for message in later {
                // If that fails, it is received again: after this one, as it is of the same group.
                let _ = self
                    .queues
                    .queue
                    .change_visibility(&message.receipt, self.visibility_timeout)
                    .await;
            }
        }
    }

    /// Takes a message out of the queue; whether that was possible.
    async fn settle_message(&self, message: &FifoMessage, reason: Option<&str>) -> bool {
        let deadline = Instant::now() + self.visibility_timeout;
        loop {
            let settled = match reason {
                Some(reason) => self.bury_message(message, reason).await,
                None => self.queues.queue.delete(&message.receipt).await,
            };
            match settled {
                Ok(()) => return true,
                Err(FifoError::Unavailable(_)) if Instant::now() < deadline => {
                    sleep(RETRY_INTERVAL).await
                }
                Err(error) => {
                    // It comes again, and is found done.
                    tracing::warn!(queue = self.queues.queue.name(), id = message.id, %error, "a message was not settled");
                    return false;
                }
            }
        }
    }

    /// The dead letter first: a message is nowhere at no time, and a repeated letter is the same letter.
    async fn bury_message(&self, message: &FifoMessage, reason: &str) -> Result<()> {
        metrics::counter!("fifo_dead_letters_total", "queue" => self.queues.queue.name().to_owned())
            .increment(1);
        self.queues.dead_letters.send(build_dead_letter(message, reason)).await?;
        self.queues.queue.delete(&message.receipt).await
    }

    async fn return_message(&self, message: &FifoMessage, delay: Duration) {
        // If that fails, others have it, or get it after the time-out.
        let _ = self.queues.queue.change_visibility(&message.receipt, delay).await;
    }
}

/// The message with the reason beside it. What leaves no room for that is cut, so that every message can be buried: first the
/// attributes that are too many or too large, then the end of the body.
pub fn build_dead_letter(message: &FifoMessage, reason: &str) -> NewFifoMessage {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let reason: String = reason.chars().take(MAX_REASON_CHARS).map(plain).collect();
    let reason = if reason.is_empty() { "unknown".to_owned() } else { reason };
    let mut attributes = message.attributes.clone();
    attributes.retain(|name, _| name != REASON_ATTRIBUTE && name != CUT_FROM_ATTRIBUTE);
    let size = |name: &str, value: &str| name.len() + value.len();
    let mut used: usize = attributes.iter().map(|(name, value)| size(name, value)).sum();
    while attributes.len() > MAX_MESSAGE_ATTRIBUTES - 2 || used > MAX_MESSAGE_BYTES / 2 {
        let Some((name, value)) = attributes.pop_last() else { break };
        used -= size(&name, &value);
    }
    used += size(REASON_ATTRIBUTE, &reason);
    attributes.insert(REASON_ATTRIBUTE.to_owned(), reason);
    let mut body = message.body.clone();
    if used + body.len() > MAX_MESSAGE_BYTES {
        let from = body.len().to_string();
        body.truncate(
            body.floor_char_boundary(MAX_MESSAGE_BYTES - used - size(CUT_FROM_ATTRIBUTE, &from)),
        );
        attributes.insert(CUT_FROM_ATTRIBUTE.to_owned(), from);
    }
    NewFifoMessage {
        group: message.group.clone(),
        deduplication_id: message.id.clone(),
        body,
        attributes,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::Utc;

    use super::super::MessageReceipt;
    use super::*;

    fn message(body: String, attributes: BTreeMap<String, String>) -> FifoMessage {
        FifoMessage {
            id: "id".to_owned(),
            group: "g".to_owned(),
            deduplication_id: "d".to_owned(),
            sequence: 1,
            body,
            attributes,
            sent_at: Utc::now(),
            receive_count: 1,
            first_received_at: None,
            receipt: MessageReceipt("r".to_owned()),
        }
    }

    #[test]
    fn every_message_that_can_be_sent_can_be_buried() {
        let attributes = |count: usize, bytes: usize| -> BTreeMap<String, String> {
            (0..count).map(|n| (format!("a{n}"), "v".repeat(bytes))).collect()
        };
        for (body, beside) in [
            ("b".repeat(MAX_MESSAGE_BYTES), attributes(0, 0)),
            ("ü".repeat(MAX_MESSAGE_BYTES / 2), attributes(0, 0)),
            ("b".to_owned(), attributes(10, 104_000)),
            ("b".repeat(MAX_MESSAGE_BYTES - 40), attributes(10, 1)),
        ] {
            let message = message(body, beside);
            let letter = build_dead_letter(&message, &"x\0".repeat(2000));
            letter.validate().unwrap();
            assert!(message.body.starts_with(&letter.body), "its beginning");
            let cut =
                (letter.body.len() < message.body.len()).then(|| message.body.len().to_string());
            assert_eq!(letter.attributes.get(CUT_FROM_ATTRIBUTE), cut.as_ref());
            assert!(letter.attributes[REASON_ATTRIBUTE].starts_with("x "));
        }
        let small = build_dead_letter(&message("whole".to_owned(), attributes(3, 3)), "reason");
        assert_eq!((small.body.as_str(), small.attributes.len()), ("whole", 4));
    }
}
