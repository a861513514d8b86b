//! Named database operations and their timeouts.

use std::time::Duration;

/// Server-side statement timeout: four times the slowest statement of a request, and short enough
/// that a process whose connections all went silent recovers within 30 seconds.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(15);
/// Timeout of large background operations and of configuration changes.
pub const LONG_OPERATION_TIMEOUT: Duration = Duration::from_secs(60);
/// Extra time for the answer beyond the server's timeout; afterwards the server counts as dead.
pub(crate) const ANSWER_GRACE: Duration = Duration::from_secs(2);
/// Timeout of acquiring a pool connection and of connecting.
pub(crate) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Default timeout of all statements of a transaction together.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(23);

/// A database operation: its name labels metrics and logs. When its timeout expires it fails with a
/// transient error and the connection is closed. A `&'static str` is an operation
/// with the default timeout.
#[derive(Debug, Clone, Copy)]
pub struct PgOperation {
    name: &'static str,
    timeout: Option<Duration>,
    is_expensive: bool,
}

impl PgOperation {
    /// An operation with the default timeout: [`STATEMENT_TIMEOUT`] for a statement, 23
    /// s for a transaction.
    pub const fn named(name: &'static str) -> Self {
        Self { name, timeout: None, is_expensive: false }
    }

    /// Sets the timeout. A value above [`STATEMENT_TIMEOUT`] costs two more round trips, which set
    /// the server's limit for each statement.
    pub const fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// Marks an operation that may be slow and is callable at any rate (a listing). Expensive
    /// operations share a third of a pool's connections, so others never wait for them; beyond that
    /// they wait in a bounded queue.
    pub const fn expensive(self) -> Self {
        Self { is_expensive: true, ..self }
    }

    pub(crate) fn is_expensive(&self) -> bool {
        self.is_expensive
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Statement timeout to set on the server, if it differs from the session default.
    pub(crate) fn server_timeout(&self) -> Option<Duration> {
        self.timeout.filter(|limit| *limit > STATEMENT_TIMEOUT)
    }

    /// Client-side timeout of the answer.
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
