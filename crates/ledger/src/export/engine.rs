//! Interface of a log broker for the export.

use futures::future::BoxFuture;
use futures::stream::BoxStream;

use super::{ExportAlarm, ExportEntry, ExportMark};
use crate::sequence::LedgerFeedEvent;

/// Error of an export.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExportError {
    /// Transient: the broker does not answer, or another process writes to its log.
    #[error("{0}")]
    Unavailable(String),
    /// The log does not end where expected: realign with its current end.
    #[error("the log has moved: {0}")]
    Moved(String),
    /// The broker's configuration forbids it; an operator must change that.
    #[error("{0}")]
    Refused(String),
    /// The log's content was not written by an exporter, or differs from the ledger.
    #[error("{0}")]
    Alarm(ExportAlarm),
    /// Error of the ledger's database.
    #[error(transparent)]
    Ledger(#[from] store::Error),
}

impl ExportError {
    /// Transient: processes learn type changes within
    /// seconds. No event is exported with an outdated type.
    pub(super) fn unknown_type(event: &LedgerFeedEvent) -> Self {
        let LedgerFeedEvent { type_name, event_id, .. } = event;
        Self::Unavailable(format!(
            "event {type_name}/{event_id} is of a type that this process does not know yet"
        ))
    }
}

/// `std::result::Result` with [`ExportError`].
pub type Result<T, E = ExportError> = std::result::Result<T, E>;

/// A log broker with one log per shard.
pub trait ExportEngine: Send + Sync {
    /// The engine's name in the settings.
    fn name(&self) -> &'static str;

    /// Opens the log of `shard` for appending. With `may_create` nothing was ever exported and the
    /// log may be created; otherwise a missing log counts as empty.
    fn open_log<'a>(
        &'a self,
        shard: &'a str,
        may_create: bool,
    ) -> BoxFuture<'a, Result<Box<dyn ExportLog>>>;

    /// The last entry of the log. Read-only.
    fn last_entry<'a>(&'a self, shard: &'a str) -> BoxFuture<'a, Result<Option<ExportEntry>>>;

    /// Entries of the log in order, at least to its current
    /// end; starts at or before `from`. Read-only.
    fn read_entries<'a>(
        &'a self,
        shard: &'a str,
        from: Option<ExportMark>,
    ) -> BoxStream<'a, Result<Vec<ExportEntry>>>;
}

/// A shard's log, open for appending. After an error it must not be used again; reopen the log to
/// learn which entries were appended. Cancellation-safe.
pub trait ExportLog: Send {
    /// The last durable entry of the log.
    fn last_entry(&mut self) -> Option<&ExportEntry>;

    /// Appends entries in order after [`ExportLog::last_entry`] or the last appended entry. On
    /// return all of them are durable.
    fn append<'a>(&'a mut self, entries: &'a [ExportEntry]) -> BoxFuture<'a, Result<()>>;
}
