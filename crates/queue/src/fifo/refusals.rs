//! Handling of messages that their queue refuses permanently: without it the
//! loss would go unnoticed.

use futures::future::BoxFuture;

use super::FifoError;

/// An outbox message that its queue refuses permanently.
#[derive(Debug, Clone)]
pub struct RefusedMessage {
    /// Name of the queue.
    pub queue: String,
    /// Deduplication id of the message.
    pub deduplication_id: String,
    /// Error of the queue.
    pub error: FifoError,
}

/// Receiver of refused messages.
pub trait FifoRefusalHandler: Send + Sync {
    /// Called for a refused message. The message stays in the outbox until this succeeds,
    /// so calls may repeat.
    fn handle_refused<'a>(
        &'a self,
        refused: &'a RefusedMessage,
    ) -> BoxFuture<'a, store::Result<()>>;
}
