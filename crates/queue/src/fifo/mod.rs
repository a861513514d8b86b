//! FIFO queues with the semantics of Amazon SQS, on interchangeable engines.
//!
//! - Order: every message belongs to a group. A message is received only when no earlier message of
//!   its group is waiting or in flight (received, and neither deleted nor visible again).
//! - Delivery: at least once. A receiver owns a message until its visibility timeout, extends the
//!   timeout while working and deletes the message when done. An expired receipt is refused.
//! - Deduplication: a message whose deduplication id was sent within the last five minutes
//!   is the earlier message.

mod catalogue;
mod consume;
mod dead_letters;
mod message;
mod outbox;
mod postgres;
mod refusals;
mod sqs;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::PgConnection;

pub use catalogue::{FifoCatalogue, PgFifoCatalogue};
pub use consume::{
    CUT_FROM_ATTRIBUTE, FifoConsumer, FifoConsumerOptions, FifoQueuePair, MessageOutcome,
    REASON_ATTRIBUTE, build_dead_letter, consume_messages,
};
pub use dead_letters::delete_dead_letters;
pub use message::{
    FifoMessage, MAX_MESSAGE_ATTRIBUTES, MAX_MESSAGE_BYTES, MessageReceipt, NewFifoMessage,
    SentMessage,
};
pub use outbox::{FifoOutbox, OUTBOX_CHANNEL, run_outbox_relay};
pub use postgres::{FIFO_CHANNEL, FifoMessageStatus, PgFifo};
pub use refusals::{FifoRefusalHandler, RefusedMessage};
pub use sqs::{SqsAccount, SqsCredentials, SqsEngine, SqsKeyProvider};

/// Maximum number of messages per receive.
pub const MAX_RECEIVED_MESSAGES: usize = 10;
/// Maximum wait time of one receive.
pub const MAX_RECEIVE_WAIT_TIME: Duration = Duration::from_secs(20);
/// Maximum visibility timeout of a message.
pub const MAX_VISIBILITY_TIMEOUT: Duration = Duration::from_secs(12 * 3600);
/// Time window in which a repeated deduplication id is recognised.
pub const DEDUPLICATION_WINDOW: Duration = Duration::from_secs(300);

/// Errors of queue calls.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FifoError {
    /// The queue does not exist (yet).
    #[error("there is no queue {0}")]
    NoQueue(String),
    /// The receipt is invalid or no longer owns its message; nothing was changed.
    #[error("the receipt has expired")]
    ReceiptExpired,
    /// The queue refuses the message permanently.
    #[error("{0}")]
    Invalid(String),
    /// The queue refuses the message permanently because of its size.
    #[error("{0}")]
    TooLarge(String),
    /// The engine is unavailable: retry later.
    #[error("the queue does not answer: {0}")]
    Unavailable(String),
    /// Any other error: a bug or a broken engine.
    #[error("the queue failed: {0}")]
    Internal(String),
}

/// Result with a [`FifoError`].
pub type Result<T, E = FifoError> = std::result::Result<T, E>;

/// Settings of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FifoQueueOptions {
    /// Default visibility timeout of a received message.
    pub visibility_timeout: Duration,
    /// Redrive policy for messages that are received too often.
    pub dead_letters: Option<DeadLetterPolicy>,
}

/// Redrive policy: moves a message that is received too often to another queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterPolicy {
    /// Name of an existing queue, the dead letter queue.
    pub queue: String,
    /// After this many receives without a delete, the message is moved instead of received again.
    pub max_receives: u32,
}

/// An open queue of some engine.
pub trait FifoQueue: Send + Sync {
    /// Name of the queue.
    fn name(&self) -> &str;

    /// Sends a message; it is durable when this returns. A repeat within [`DEDUPLICATION_WINDOW`]
    /// returns the same answer.
    fn send(&self, message: NewFifoMessage) -> BoxFuture<'_, Result<SentMessage>>;

    /// Receives at most `max_messages` (1 to [`MAX_RECEIVED_MESSAGES`]) messages, waiting up to
    /// `wait` for the first. They stay invisible for `visibility` (default: the queue's timeout).
    /// Several messages of one group are in order: do not start one before the
    /// earlier one is deleted.
    fn receive(
        &self,
        max_messages: usize,
        wait: Duration,
        visibility: Option<Duration>,
    ) -> BoxFuture<'_, Result<Vec<FifoMessage>>>;

    /// Deletes a processed message. Fails with [`FifoError::ReceiptExpired`] once the message may
    /// have been received again.
    fn delete<'a>(&'a self, receipt: &'a MessageReceipt) -> BoxFuture<'a, Result<()>>;

    /// Sets the remaining visibility timeout of a received message; zero makes it visible
    /// immediately. Fails with [`FifoError::ReceiptExpired`] once the message may
    /// have been received again.
    fn change_visibility<'a>(
        &'a self,
        receipt: &'a MessageReceipt,
        visibility: Duration,
    ) -> BoxFuture<'a, Result<()>>;
}

/// An implementation of FIFO queues.
pub trait FifoEngine: Send + Sync {
    /// Creates the queue or updates its settings.
    fn ensure_queue<'a>(
        &'a self,
        name: &'a str,
        options: FifoQueueOptions,
    ) -> BoxFuture<'a, Result<()>>;

    /// Opens an existing queue.
    fn open_queue<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Arc<dyn FifoQueue>>>;
}

/// Sends within a transaction on the control database: message and effect commit atomically.
/// Engines outside that database use an outbox.
pub trait FifoTxSender: Send + Sync {
    /// Sends to one existing queue, in order. The groups are locked until the transaction ends:
    /// other senders to them block. Engines with an outbox return no answers: the messages
    /// have no id yet.
    fn send_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        queue: &'a str,
        messages: &'a [NewFifoMessage],
    ) -> BoxFuture<'a, store::Result<Vec<SentMessage>>>;

    /// Sends to several queues, in order. The queues need not exist: an engine creates missing
    /// ones, or keeps the messages until they are created.
    fn send_all_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        messages: &'a [(&'a str, &'a NewFifoMessage)],
    ) -> BoxFuture<'a, store::Result<Vec<SentMessage>>>;

    /// Removes messages with these deduplication ids that are not sent yet,
    /// and returns their state.
    fn take_back_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        deduplication_ids: &'a [String],
    ) -> BoxFuture<'a, store::Result<Vec<UnsentMessage>>>;
}

/// A message removed from the outbox before it was sent.
#[derive(Debug, Clone, PartialEq, Eq, store::FromRow)]
pub struct UnsentMessage {
    /// Deduplication id of the message.
    pub deduplication: String,
    /// Number of send attempts.
    pub attempts: i32,
    /// Last error; `None` if no attempt failed.
    pub reason: Option<String>,
}
