//! One error for all database work, classified once, by SQLSTATE.

use std::sync::Arc;

use sqlx::postgres::{PgDatabaseError, PgSeverity};

/// The outcome of database work that failed. Cheap to clone: one failed batch answers many callers.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The database cannot be reached, is starting, stopping, full or out of connections: try again later.
    #[error("database unavailable: {0}")]
    Unavailable(Arc<sqlx::Error>),
    /// Lost against concurrent work (serialization, deadlock, lock time-out): try again at once.
    #[error("database contention: {0}")]
    Contention(Arc<sqlx::Error>),
    /// What had to come first took too long, or the database did not answer in time; the reason says which.
    #[error("waited too long: {0}")]
    WaitTimeout(&'static str),
    /// Somebody else wrote the same key, of the constraint named here, at the same time: try again at once.
    #[error("raced for a key of {0}")]
    KeyRace(String),
    /// A unique constraint, named here, refused the write.
    #[error("unique constraint {0} violated")]
    UniqueViolation(String),
    /// The caller's lease is held by somebody else now; nothing was written.
    #[error("lease {lease_id} at epoch {epoch} is no longer held")]
    Fenced {
        /// The lease that was lost.
        lease_id: i64,
        /// The epoch the caller held.
        epoch: i64,
    },
    /// The answer of a commit was lost, and what the database says now may be the work of that commit: whether it was
    /// written is unknown. Look, then repeat.
    #[error("the database was lost while it committed: it is unknown whether this was written")]
    OutcomeUnknown,
    /// The database refuses the work for a reason that will not pass: a bug, or broken data.
    #[error("database error: {0}")]
    Internal(Arc<sqlx::Error>),
    /// The task that did the work is gone (it panicked, or the process is stopping).
    #[error("database work was abandoned")]
    Abandoned,
}

/// `std::result::Result` with this room's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The classes of SQLSTATEs, and single ones, of which the same work will meet the same again. Everything else may pass:
/// an unknown error must not end what could be carried on. (A cached plan that must not change is `0A000`, and passes
/// with its connection: see [`is_stale_plan`].)
const PERMANENT_SQLSTATES: [&str; 25] = [
    "0A",    // feature_not_supported
    "0B",    // invalid_transaction_initiation
    "20",    // case_not_found
    "21",    // cardinality_violation
    "22",    // data_exception
    "23",    // integrity_constraint_violation
    "25001", // active_sql_transaction
    "25P01", // no_active_sql_transaction
    "25P02", // in_failed_sql_transaction
    "2B",    // dependent_privilege_descriptors_still_exist
    "2D",    // invalid_transaction_termination
    "34",    // invalid_cursor_name
    "38",    // external_routine_exception
    "39",    // external_routine_invocation_exception
    "3B",    // savepoint_exception
    "3F",    // invalid_schema_name
    "42",    // syntax_error_or_access_rule_violation
    "44",    // with_check_option_violation
    "54",    // program_limit_exceeded
    "P0",    // raise_exception, assert_failure
    "XX001", // data_corrupted
    "XX002", // index_corrupted
    "FQ",    // our own: there is no such queue
    "LC",    // our own: two things have one id
    "LP",    // our own: a month's events are needed
];

impl Error {
    /// Whether the same work may succeed when repeated unchanged.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Error::Unavailable(_)
                | Error::Contention(_)
                | Error::WaitTimeout(_)
                | Error::KeyRace(_)
                | Error::OutcomeUnknown
        )
    }

    /// Whether the caller of a service should try again: also if only this process, or this task of it, could not do the work.
    pub fn is_temporary(&self) -> bool {
        self.is_transient() || matches!(self, Error::Abandoned | Error::Fenced { .. })
    }

    /// Whether it took longer than it may: perhaps it is too much at once.
    pub fn is_timeout(&self) -> bool {
        let Error::Unavailable(error) = self else { return false };
        match &**error {
            sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::TimedOut,
            _ => self.sqlstate().as_deref() == Some("57014"),
        }
    }

    /// Whether there is no room left where the database lies: somebody has to make some.
    pub fn is_disk_full(&self) -> bool {
        self.sqlstate().as_deref() == Some("53100")
    }

    /// The code that the database gave, if the error is one that it answered and that nothing here has a name for.
    pub fn sqlstate(&self) -> Option<String> {
        let (Error::Internal(error) | Error::Unavailable(error) | Error::Contention(error)) = self
        else {
            return None;
        };
        error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned())
    }

    /// Whether the work may have been committed all the same, if it was at its last statement: an error that the database
    /// raised inside the transaction ended that; a connection that broke, or was ended by the server, says nothing.
    pub(crate) fn leaves_outcome_unknown(&self) -> bool {
        let (Error::Unavailable(error) | Error::Internal(error)) = self else { return false };
        match &**error {
            sqlx::Error::Database(error) => {
                let error = error.try_downcast_ref::<PgDatabaseError>();
                error.is_none_or(|error| {
                    matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic)
                })
            }
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => false,
            _ => matches!(self, Error::Unavailable(_)),
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match &error {
            E::Io(_)
            | E::Tls(_)
            | E::PoolTimedOut
            | E::PoolClosed
            | E::WorkerCrashed
            | E::Protocol(_)
            | E::BeginFailed => Error::Unavailable(Arc::new(error)),
            E::Database(db) => match db.code().as_deref().unwrap_or_default() {
                "23505" => Error::UniqueViolation(db.constraint().unwrap_or_default().to_owned()),
                // serialization_failure, deadlock_detected, lock_not_available
                "40001" | "40P01" | "55P03" => Error::Contention(Arc::new(error)),
                code if is_stale_plan(code, db.message()) || !is_permanent_sqlstate(code) => {
                    Error::Unavailable(Arc::new(error))
                }
                _ => Error::Internal(Arc::new(error)),
            },
            _ => Error::Internal(Arc::new(error)),
        }
    }
}

fn is_permanent_sqlstate(code: &str) -> bool {
    PERMANENT_SQLSTATES.iter().any(|class| code.starts_with(class))
}

/// A prepared statement of this connection whose table was changed meanwhile; a new connection plans it anew.
fn is_stale_plan(code: &str, message: &str) -> bool {
    code == "0A000" && message.contains("cached plan must not change result type")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_to_stay_may_pass() {
        let passing = [
            "25P03", "25006", "57P01", "58030", "58P01", "53100", "08006", "XX000", "3D000",
            "26000", "",
        ];
        passing.iter().for_each(|code| assert!(!is_permanent_sqlstate(code), "{code}"));
        let staying = ["0A000", "22P02", "23514", "25P02", "42P01", "54001", "P0001", "XX001"];
        staying.iter().for_each(|code| assert!(is_permanent_sqlstate(code), "{code}"));
    }

    #[test]
    fn what_another_process_may_do_is_temporary_to_a_caller() {
        let fenced = Error::Fenced { lease_id: 1, epoch: 2 };
        for error in
            [Error::Abandoned, fenced, Error::OutcomeUnknown, sqlx::Error::PoolTimedOut.into()]
        {
            assert!(error.is_temporary(), "{error}");
        }
        assert!(!Error::UniqueViolation("key".to_owned()).is_temporary());
    }

    #[test]
    fn a_changed_table_is_planned_for_again() {
        assert!(is_stale_plan("0A000", "cached plan must not change result type"));
        assert!(!is_stale_plan("0A000", "cannot accept a value of type anyarray"));
    }
}
