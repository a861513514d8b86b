//! What a log broker must be able to do.

use futures::future::BoxFuture;
use futures::stream::BoxStream;

use super::{ExportAlarm, ExportEntry, ExportMark};
use crate::sequence::LedgerFeedEvent;

/// Why something could not be done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExportError {
    /// The broker does not answer, or somebody else writes to its log: later.
    #[error("{0}")]
    Unavailable(String),
    /// The log does not end where it was believed to: look again what it holds.
    #[error("the log has moved: {0}")]
    Moved(String),
    /// The broker's set-up does not allow it; somebody must change that.
    #[error("{0}")]
    Refused(String),
    /// What is there is not what an exporter has written, or not what the ledger holds.
    #[error("{0}")]
    Alarm(ExportAlarm),
    /// The ledger's database.
    #[error(transparent)]
    Ledger(#[from] store::Error),
}

impl ExportError {
    /// Types are learned within seconds of their change; nothing is exported by a wrong one.
    pub(super) fn unknown_type(event: &LedgerFeedEvent) -> Self {
        let LedgerFeedEvent { type_name, event_id, .. } = event;
        Self::Unavailable(format!(
            "event {type_name}/{event_id} is of a type that this process does not know yet"
        ))
    }
}

/// `std::result::Result` with this folder's error.
pub type Result<T, E = ExportError> = std::result::Result<T, E>;

/// A log broker, with one log for each shard.
pub trait ExportEngine: Send + Sync {
    /// Its name, as in the settings.
    fn name(&self) -> &'static str;

    /// Opens the log of `shard` for appending. `may_create`: nothing was ever exported, so the log may be made; otherwise one
    /// that is not there is empty.
    fn open_log<'a>(
        &'a self,
        shard: &'a str,
        may_create: bool,
    ) -> BoxFuture<'a, Result<Box<dyn ExportLog>>>;

    /// The entry that the log ends with; changes nothing.
    fn last_entry<'a>(&'a self, shard: &'a str) -> BoxFuture<'a, Result<Option<ExportEntry>>>;

    /// What the log holds, in its order, up to its present end or further; begins at the latest with `from`. Changes
    /// nothing.
    fn read_entries<'a>(
        &'a self,
        shard: &'a str,
        from: Option<ExportMark>,
    ) -> BoxStream<'a, Result<Vec<ExportEntry>>>;
}

/// A shard's log, open for appending. After an error it is of no use any more; what became of the entries is to be asked of
/// the log after opening it again. May be dropped at any time.
pub trait ExportLog: Send {
    /// The entry that the log ends with, and will end with after a crash.
    fn last_entry(&mut self) -> Option<&ExportEntry>;

    /// Appends entries in order right after the one that [`ExportLog::last_entry`] named or that was appended last. Done means that
    /// all of them are there for good.
    fn append<'a>(&'a mut self, entries: &'a [ExportEntry]) -> BoxFuture<'a, Result<()>>;
}
