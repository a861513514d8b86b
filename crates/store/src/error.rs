//! Error type of all database work, classified once by SQLSTATE.

use std::sync::Arc;

use sqlx::postgres::{PgDatabaseError, PgSeverity};

use crate::ids::{LeaseEpoch, LeaseId};

/// Error of database work. Cheap to clone: one failed batch answers many callers.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The database is unreachable, starting, stopping, full or out of connections: retry later.
    #[error("database unavailable: {0}")]
    Unavailable(Arc<sqlx::Error>),
    /// Contention with concurrent transactions (serialization failure, deadlock,
    /// lock timeout): retry immediately.
    #[error("database contention: {0}")]
    Contention(Arc<sqlx::Error>),
    /// A preceding step or the database's answer took too long; the reason says which.
    #[error("waited too long: {0}")]
    WaitTimeout(&'static str),
    /// A concurrent transaction wrote the same key of this constraint: retry immediately.
    #[error("raced for a key of {0}")]
    KeyRace(String),
    /// Violation of the named unique constraint.
    #[error("unique constraint {0} violated")]
    UniqueViolation(String),
    /// Another process holds the caller's lease; nothing was written.
    #[error("lease {lease_id} at epoch {epoch} is no longer held")]
    Fenced {
        /// Id of the lost lease.
        lease_id: LeaseId,
        /// Epoch (fencing token) that the caller held.
        epoch: LeaseEpoch,
    },
    /// Commit outcome unknown: the answer of a commit was lost, and the database's present state
    /// may result from that commit. Check, then retry.
    #[error("the database was lost while it committed: it is unknown whether this was written")]
    OutcomeUnknown,
    /// Permanent error: a bug or corrupt data.
    #[error("database error: {0}")]
    Internal(Arc<sqlx::Error>),
    /// The task of the work ended without an answer (panic or shutdown).
    #[error("database work was abandoned")]
    Abandoned,
}

/// Result with a database [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// SQLSTATE classes and codes that a retry meets again. All other errors count as transient: an
/// unknown error must not end work that could continue. (A stale cached plan is `0A000` and
/// transient, because a new connection avoids it: see [`is_stale_plan`].)
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
    "FQ",    // ours: no such queue
    "LC",    // ours: two objects with one id
    "LP",    // ours: events of this month are needed
];

impl Error {
    /// Whether an unchanged retry may succeed.
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

    /// Whether the caller of a service should retry: includes errors of only this process or task.
    pub fn is_temporary(&self) -> bool {
        self.is_transient() || matches!(self, Error::Abandoned | Error::Fenced { .. })
    }

    /// Whether a time limit was exceeded; a smaller batch may succeed.
    pub fn is_timeout(&self) -> bool {
        let Error::Unavailable(error) = self else { return false };
        match &**error {
            sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::TimedOut,
            _ => self.sqlstate().as_deref() == Some("57014"),
        }
    }

    /// Whether the database's disk is full, which needs an operator.
    pub fn is_disk_full(&self) -> bool {
        self.sqlstate().as_deref() == Some("53100")
    }

    /// SQLSTATE of an error that the server reported and that has no variant here.
    pub fn sqlstate(&self) -> Option<String> {
        let (Error::Internal(error) | Error::Unavailable(error) | Error::Contention(error)) = self
        else {
            return None;
        };
        error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned())
    }

    /// Whether the commit outcome is unknown if this was the last statement. An error raised inside
    /// the transaction aborted it; a broken or terminated connection leaves the outcome open.
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

/// A prepared statement whose table was altered; a new connection prepares it again.
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
        let fenced = Error::Fenced { lease_id: LeaseId(1), epoch: LeaseEpoch(2) };
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
