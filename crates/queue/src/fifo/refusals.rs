//! Messages that no queue takes: whoever they are about is told, as nobody else would notice.

use futures::future::BoxFuture;

use super::FifoError;

/// A message of the outbox that its queue refuses for ever.
#[derive(Debug, Clone)]
pub struct RefusedMessage {
    /// The queue.
    pub queue: String,
    /// What the message was to be sent with.
    pub deduplication_id: String,
    /// What the service said.
    pub error: FifoError,
}

/// Hears of refused messages.
pub trait FifoRefusalHandler: Send + Sync {
    /// A message was refused. It is kept until this has succeeded, so that it may be told more than once.
    fn handle_refused<'a>(
        &'a self,
        refused: &'a RefusedMessage,
    ) -> BoxFuture<'a, store::Result<()>>;
}
