//! FIFO consumer: receives messages, extends their visibility timeout while a handler runs, and
//! settles them by the handler's outcome.
//!
//! - Shape: up to 10 messages per receive, handled in parallel by group, one after
//!   another within a group.
//! - Cost: one receive per batch, one visibility extension per message every third of the timeout.
//! - Promise: at-least-once delivery. A crashed consumer's messages become visible again after the
//!   visibility timeout; a dead letter is sent before its message is deleted.

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

/// Attribute of a dead letter: the reason.
pub const REASON_ATTRIBUTE: &str = "Reason";
/// Attribute of a dead letter with a truncated body: the original body size in bytes.
pub const CUT_FROM_ATTRIBUTE: &str = "CutFrom";
/// Maximum length of a reason, in characters.
const MAX_REASON_CHARS: usize = 1000;
/// Wait after a failed call to the engine.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Outcome of handling one message; `Done` and `Dead` as in [`crate::JobOutcome`]. Messages count
/// no attempts, so `RetryAfter` stands for both failed and deferred attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageOutcome {
    /// Processed: the message is deleted.
    Done,
    /// Not processed: the message stays in its group and is received again after this time.
    RetryAfter(Duration),
    /// Given up, with the reason: the message moves to the dead letter queue.
    Dead(String),
}

/// Handler of messages. Delivery is at least once: effects must be idempotent.
pub trait FifoConsumer: Send + Sync + 'static {
    /// Handles one message. The future is dropped at an await point when another receiver took over
    /// the message. A panic makes the message a dead letter.
    fn consume(&self, message: &FifoMessage) -> impl Future<Output = MessageOutcome> + Send;
}

/// Settings of a consumer.
#[derive(Debug, Clone, Copy)]
pub struct FifoConsumerOptions {
    /// Maximum number of messages in work.
    pub concurrency: usize,
    /// Visibility timeout: how long the messages of a crashed consumer stay invisible. Extended
    /// after every third of it while a handler runs.
    pub visibility_timeout: Duration,
    /// Time for messages in work to finish after `stop`; afterwards they are made visible again.
    pub shutdown_timeout: Duration,
}

/// A queue and its dead letter queue.
#[derive(Clone)]
pub struct FifoQueuePair {
    /// Source of the messages.
    pub queue: Arc<dyn FifoQueue>,
    /// Destination of messages that are given up.
    pub dead_letters: Arc<dyn FifoQueue>,
}

struct FifoConsumerTask<C> {
    queues: FifoQueuePair,
    consumer: Arc<C>,
    visibility_timeout: Duration,
    abort: CancellationToken,
    outage: Outage,
}

/// Consumes until `stop`; returns when no message is in work. Messages of a receive in flight at
/// that moment are received again after the visibility timeout.
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

/// Receives messages and groups them by message group, each with its semaphore permits.
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
        // A permit is available: only this task acquires them.
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
    /// Handles messages of one group in order; after the first that is not done, the rest
    /// are made visible again.
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

    /// Returns whether the message has left the queue.
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

    /// Extends the visibility of the messages in work; returns when that failed.
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
                // On failure the message is received again, but after this one: both are
                // of the same group.
                let _ = self
                    .queues
                    .queue
                    .change_visibility(&message.receipt, self.visibility_timeout)
                    .await;
            }
        }
    }

    /// Removes a message from the queue; returns whether that succeeded.
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
                    // The message is received again and found done.
                    tracing::warn!(queue = self.queues.queue.name(), id = message.id, %error, "a message was not settled");
                    return false;
                }
            }
        }
    }

    /// Sends the dead letter before the delete, so the message is never lost. A repeated
    /// dead letter is deduplicated.
    async fn bury_message(&self, message: &FifoMessage, reason: &str) -> Result<()> {
        metrics::counter!("fifo_dead_letters_total", "queue" => self.queues.queue.name().to_owned())
            .increment(1);
        self.queues.dead_letters.send(build_dead_letter(message, reason)).await?;
        self.queues.queue.delete(&message.receipt).await
    }

    async fn return_message(&self, message: &FifoMessage, delay: Duration) {
        // On failure another receiver has the message, or gets it after the visibility timeout.
        let _ = self.queues.queue.change_visibility(&message.receipt, delay).await;
    }
}

/// Builds a dead letter: the message with the reason as an attribute. An oversized message is
/// truncated so that every message fits: excess attributes first, then the end of the body.
pub fn build_dead_letter(message: &FifoMessage, reason: &str) -> NewFifoMessage {
    let reason: String = reason.chars().take(MAX_REASON_CHARS).map(blank_control_char).collect();
    let reason = if reason.is_empty() { "unknown".to_owned() } else { reason };
    let mut attributes = message.attributes.clone();
    attributes.retain(|name, _| name != REASON_ATTRIBUTE && name != CUT_FROM_ATTRIBUTE);
    let mut used: usize = attributes.iter().map(|(name, value)| attribute_bytes(name, value)).sum();
    while attributes.len() > MAX_MESSAGE_ATTRIBUTES - 2 || used > MAX_MESSAGE_BYTES / 2 {
        let Some((name, value)) = attributes.pop_last() else { break };
        used -= attribute_bytes(&name, &value);
    }
    used += attribute_bytes(REASON_ATTRIBUTE, &reason);
    attributes.insert(REASON_ATTRIBUTE.to_owned(), reason);
    let mut body = message.body.clone();
    if used + body.len() > MAX_MESSAGE_BYTES {
        let from = body.len().to_string();
        let room = MAX_MESSAGE_BYTES - used - attribute_bytes(CUT_FROM_ATTRIBUTE, &from);
        body.truncate(body.floor_char_boundary(room));
        attributes.insert(CUT_FROM_ATTRIBUTE.to_owned(), from);
    }
    NewFifoMessage {
        group: message.group.clone(),
        deduplication_id: message.id.clone(),
        body,
        attributes,
    }
}

fn blank_control_char(character: char) -> char {
    if character.is_control() { ' ' } else { character }
}

fn attribute_bytes(name: &str, value: &str) -> usize {
    name.len() + value.len()
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
