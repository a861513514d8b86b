//! Database work by name, and the time it may take.

use std::time::Duration;

/// The server ends a statement after this: four times what the slowest one on a request's way needs, and short enough for
/// a process whose connections all went silent to work again within half a minute.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(15);
/// What work in the background may take that goes through much at once, and a change of the configuration.
pub const LONG_OPERATION_TIMEOUT: Duration = Duration::from_secs(60);
/// What an answer may take beyond the server's own limit: whoever has not answered by then is not there.
pub(crate) const ANSWER_GRACE: Duration = Duration::from_secs(2);
/// How long one waits for a place in a pool, and for a connection to be made.
pub(crate) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// For all statements of a transaction together, unless the operation says otherwise.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(23);

/// A piece of database work: its name labels metrics and logs; without an answer in its time it ends with a transient
/// error, and the connection is closed. A `&'static str` is an operation of the usual time.
#[derive(Debug, Clone, Copy)]
pub struct PgOperation {
    name: &'static str,
    timeout: Option<Duration>,
    is_expensive: bool,
}

impl PgOperation {
    /// An operation of the usual time: [`STATEMENT_TIMEOUT`] for a statement, 23 s for a transaction.
    pub const fn named(name: &'static str) -> Self {
        Self { name, timeout: None, is_expensive: false }
    }

    /// Ends after `timeout`. A longer one than [`STATEMENT_TIMEOUT`] costs two round trips more: it is also told to the
    /// server, for each of its statements.
    pub const fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// Takes long at times, and may be asked for by anybody at any rate (a listing): such operations share a third of a
    /// pool's connections, so that the others never wait for them; beyond that they wait in a line of bounded length.
    pub const fn expensive(self) -> Self {
        Self { is_expensive: true, ..self }
    }

    pub(crate) fn is_expensive(&self) -> bool {
        self.is_expensive
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// What the server has to be told, if it is not what holds for every session anyway.
    pub(crate) fn server_timeout(&self) -> Option<Duration> {
        self.timeout.filter(|limit| *limit > STATEMENT_TIMEOUT)
    }

    /// When whoever waits for the answer gives up.
    pub(crate) fn answer_timeout(&self, transaction: bool) -> Duration {
        match self.timeout {
            Some(limit) if limit <= STATEMENT_TIMEOUT => limit,
            Some(limit) => limit + ANSWER_GRACE,
            None if transaction => TRANSACTION_TIMEOUT + ANSWER_GRACE,
            None => STATEMENT_TIMEOUT + ANSWER_GRACE,
        }
    }
}

impl From<&'static str> for PgOperation {
    fn from(name: &'static str) -> Self {
        Self::named(name)
    }
}
