//! One error for all database work, classified once, by SQLSTATE.

use std::sync::Arc;

/// The outcome of database work that failed. Cheap to clone: one failed batch answers many callers.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The database cannot be reached, is starting, stopping, full or out of connections: try again later.
    #[error("database unavailable: {0}")]
    Unavailable(Arc<sqlx::Error>),
    /// Lost against concurrent work (serialization, deadlock, lock time-out): try again at once.
    #[error("database contention: {0}")]
    Contention(Arc<sqlx::Error>),
    /// Somebody else wrote the same key, of the constraint named here, at the same time: try again at once.
    #[error("raced for a key of {0}")]
    Raced(String),
    /// A unique constraint, named here, refused the write.
    #[error("unique constraint {0} violated")]
    Duplicate(String),
    /// The caller's lease is held by somebody else now; nothing was written.
    #[error("lease {lease_id} at epoch {epoch} is no longer held")]
    Fenced {
        /// The lease that was lost.
        lease_id: i64,
        /// The epoch the caller held.
        epoch: i64,
    },
    /// Anything else: a bug or a broken database.
    #[error("database error: {0}")]
    Internal(Arc<sqlx::Error>),
    /// The task that did the work is gone (it panicked, or the process is stopping).
    #[error("database work was abandoned")]
    Abandoned,
}

/// `std::result::Result` with this room's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether the same work may succeed when repeated unchanged.
    pub fn is_transient(&self) -> bool {
        matches!(self, Error::Unavailable(_) | Error::Contention(_) | Error::Raced(_))
    }

    /// Whether there is no room left where the database lies: somebody has to make some.
    pub fn is_disk_full(&self) -> bool {
        let Error::Unavailable(error) = self else { return false };
        error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("53100"))
    }

    /// The code of an error that the database raised and that nothing here has a name for.
    pub fn sqlstate(&self) -> Option<String> {
        let Error::Internal(error) = self else { return None };
        error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned())
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match &error {
            E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed | E::Protocol(_) => {
                Error::Unavailable(Arc::new(error))
            }
            E::Database(db) => match db.code().as_deref().unwrap_or_default() {
                "23505" => Error::Duplicate(db.constraint().unwrap_or_default().to_owned()),
                // serialization_failure, deadlock_detected, lock_not_available
                "40001" | "40P01" | "55P03" => Error::Contention(Arc::new(error)),
                // connection exceptions, insufficient resources, operator intervention, read-only (a failover)
                code if ["08", "53", "57"].iter().any(|class| code.starts_with(class)) || code == "25006" => {
                    Error::Unavailable(Arc::new(error))
                }
                _ => Error::Internal(Arc::new(error)),
            },
            _ => Error::Internal(Arc::new(error)),
        }
    }
}
