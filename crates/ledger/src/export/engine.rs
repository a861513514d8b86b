//! What a log broker must be able to do.

use futures::future::BoxFuture;
use futures::stream::BoxStream;

use super::{Alarm, Entry, Mark};
use crate::sequence::Fed;

/// Why something could not be done.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
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
    Alarm(Alarm),
    /// The ledger's database.
    #[error(transparent)]
    Ledger(#[from] store::Error),
}

impl Error {
    /// Types are learned within seconds of their change; nothing is exported by a wrong one.
    pub(super) fn unknown_type(event: &Fed) -> Self {
        let Fed { type_name, event_id, .. } = event;
        Self::Unavailable(format!(
            "event {type_name}/{event_id} is of a type that this process does not know yet"
        ))
    }
}

/// `std::result::Result` with this folder's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A log broker, with one log for each shard.
pub trait Engine: Send + Sync {
    /// Its name, as in the settings.
    fn name(&self) -> &'static str;

    /// Opens the log of `shard` for appending. `begins`: nothing was ever exported, so the log may be made; otherwise one
    /// that is not there is empty.
    fn open<'a>(&'a self, shard: &'a str, begins: bool) -> BoxFuture<'a, Result<Box<dyn Log>>>;

    /// The entry that the log ends with; changes nothing.
    fn last<'a>(&'a self, shard: &'a str) -> BoxFuture<'a, Result<Option<Entry>>>;

    /// What the log holds, in its order, up to its present end or further; begins at the latest with `from`. Changes
    /// nothing.
    fn read<'a>(&'a self, shard: &'a str, from: Option<Mark>) -> BoxStream<'a, Result<Vec<Entry>>>;
}

/// A shard's log, open for appending. After an error it is of no use any more; what became of the entries is to be asked of
/// the log after opening it again. May be dropped at any time.
pub trait Log: Send {
    /// The entry that the log ends with, and will end with after a crash.
    fn last(&mut self) -> Option<&Entry>;

    /// Appends entries in order right after the one that [`Log::last`] named or that was appended last. Done means that
    /// all of them are there for good.
    fn append<'a>(&'a mut self, entries: &'a [Entry]) -> BoxFuture<'a, Result<()>>;
}
