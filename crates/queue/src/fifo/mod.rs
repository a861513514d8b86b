//! FIFO queues with the semantics of Amazon SQS, whatever keeps them.
//!
//! A message belongs to a group. Of a group nothing is received while an earlier message of it is in flight (received, and
//! neither deleted nor visible again) or waiting, so what is done for one ends before the next begins. Delivery is at
//! least once: whoever receives a message owns it until its visibility time-out, extends that while working, and deletes
//! it when done; a receipt that has expired is refused. A message whose deduplication id was sent within the last five
//! minutes is that message.

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

/// Most messages of one receive.
pub const MAX_RECEIVED_MESSAGES: usize = 10;
/// Longest wait of one receive.
pub const MAX_RECEIVE_WAIT_TIME: Duration = Duration::from_secs(20);
/// Longest time that a message can be kept from others.
pub const MAX_VISIBILITY_TIMEOUT: Duration = Duration::from_secs(12 * 3600);
/// How long a deduplication id is remembered.
pub const DEDUPLICATION_WINDOW: Duration = Duration::from_secs(300);

/// Why a queue did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FifoError {
    /// There is no such queue (yet).
    #[error("there is no queue {0}")]
    NoQueue(String),
    /// The receipt is not, or no longer, the one that owns its message; nothing was changed.
    #[error("the receipt has expired")]
    ReceiptExpired,
    /// The queue would refuse it for ever.
    #[error("{0}")]
    Invalid(String),
    /// The queue would refuse it for ever: it takes no message of that size.
    #[error("{0}")]
    TooLarge(String),
    /// The engine does not answer: try again later.
    #[error("the queue does not answer: {0}")]
    Unavailable(String),
    /// Anything else: a bug or a broken engine.
    #[error("the queue failed: {0}")]
    Internal(String),
}

/// `std::result::Result` with this room's error.
pub type Result<T, E = FifoError> = std::result::Result<T, E>;

/// How a queue behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FifoQueueOptions {
    /// How long a received message is kept from others, unless its receiver says otherwise.
    pub visibility_timeout: Duration,
    /// Where messages go that nobody could deal with.
    pub dead_letters: Option<DeadLetterPolicy>,
}

/// Where messages go that nobody could deal with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterPolicy {
    /// The name of a queue that is there.
    pub queue: String,
    /// A message that was received so often and not deleted goes there instead of being received once more.
    pub max_receives: u32,
}

/// One queue.
pub trait FifoQueue: Send + Sync {
    /// Its name.
    fn name(&self) -> &str;

    /// Sends a message; it is durable when this returns. Repeating it within [`DEDUPLICATION_WINDOW`] answers the same.
    fn send(&self, message: NewFifoMessage) -> BoxFuture<'_, Result<SentMessage>>;

    /// Receives at most `max_messages` (1 to [`MAX_RECEIVED_MESSAGES`]) messages, waiting up to `wait` for the first, and keeps them from
    /// others for `visibility_timeout` (the queue's own if nothing is said). Several of one group, if an engine gives them
    /// together, are in order: a later one must not be begun before the earlier one is deleted.
    fn receive(
        &self,
        max_messages: usize,
        wait: Duration,
        visibility: Option<Duration>,
    ) -> BoxFuture<'_, Result<Vec<FifoMessage>>>;

    /// Deletes a received message: it is done. Refused with [`FifoError::ReceiptExpired`] once others may have received it.
    fn delete<'a>(&'a self, receipt: &'a MessageReceipt) -> BoxFuture<'a, Result<()>>;

    /// Keeps a received message from others for so long from now; zero gives it back at once. Refused with
    /// [`FifoError::ReceiptExpired`] once others may have received it.
    fn change_visibility<'a>(
        &'a self,
        receipt: &'a MessageReceipt,
        visibility: Duration,
    ) -> BoxFuture<'a, Result<()>>;
}

/// What keeps queues.
pub trait FifoEngine: Send + Sync {
    /// Makes a queue if there is none of this name, and gives it these terms.
    fn ensure_queue<'a>(
        &'a self,
        name: &'a str,
        options: FifoQueueOptions,
    ) -> BoxFuture<'a, Result<()>>;

    /// A queue that is there.
    fn open_queue<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Arc<dyn FifoQueue>>>;
}

/// Sends within a transaction on the control database: message and effect are committed together. Engines that lie
/// elsewhere keep the messages in an outbox until they are sent.
pub trait FifoTxSender: Send + Sync {
    /// Sends to a queue that is there, in order. Groups are locked until the transaction ends: nobody else sends to them.
    /// An engine that keeps an outbox answers nothing: what it sends has no id yet.
    fn send_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        queue: &'a str,
        messages: &'a [NewFifoMessage],
    ) -> BoxFuture<'a, store::Result<Vec<SentMessage>>>;

    /// Sends to several queues, in order, whether or not they are there: an engine makes those that are missing, or keeps
    /// the messages until somebody does.
    fn send_all_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        messages: &'a [(&'a str, &'a NewFifoMessage)],
    ) -> BoxFuture<'a, store::Result<Vec<SentMessage>>>;

    /// Takes back what was to be sent under these ids, as far as it is not sent yet; what is known of that.
    fn take_back_in_tx<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        deduplication_ids: &'a [String],
    ) -> BoxFuture<'a, store::Result<Vec<UnsentMessage>>>;
}

/// A message that was to be sent and is not any more.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct UnsentMessage {
    /// Its deduplication id.
    pub deduplication: String,
    /// How often it was tried.
    pub attempts: i32,
    /// Why it could not be sent; `None`: it had not come to that.
    pub reason: Option<String>,
}
