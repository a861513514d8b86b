//! Writes under a lock, in the caller's transaction.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use store::{Result, mutant};
use uuid::Uuid;

use crate::ids::FencingToken;

/// Whether a transaction may write under a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockStatus {
    /// The lock is held, and cannot be ended before the calling transaction ends.
    Alive {
        /// Fencing token of the grant.
        token: FencingToken,
        /// Expiry on the database's clock.
        expires_at: DateTime<Utc>,
    },
    /// The lock was released or has expired.
    Ended,
    /// Unknown lock id, or a lock that ended long ago.
    Unknown,
}

/// Whether a lock on this database's shard is alive. If so, no conflicting grant happens before the
/// transaction on `connection` ends, even past the lock's expiry. Call it before writing; it takes
/// a row lock (`FOR KEY SHARE`).
pub async fn check_lock_in_tx(connection: &mut PgConnection, lock_id: Uuid) -> Result<LockStatus> {
    let found: Option<(FencingToken, DateTime<Utc>, bool)> =
        store::statement("lock_alive", CHECK_LOCK_SQL)
            .bind(lock_id)
            .fetch_optional(connection)
            .await?;
    let found = found.map(|(token, expires_at, alive)| match alive {
        _ if mutant("lock_expiry_by_the_processes_clock") => {
            (token, expires_at, expires_at > Utc::now())
        }
        false if mutant("ended_lock_written_under") => (token, expires_at, true),
        alive => (token, expires_at, alive),
    });
    Ok(match found {
        Some((token, expires_at, true)) => LockStatus::Alive { token, expires_at },
        Some((_, _, false)) => LockStatus::Ended,
        None => LockStatus::Unknown,
    })
}

/// The clock is read after the row lock is granted: an end that the statement waited for is
/// visible.
const CHECK_LOCK_SQL: &str = "WITH lock AS MATERIALIZED (
    SELECT token, expires_at, state FROM locks WHERE lock_id = $1 AND state <> 'w' FOR KEY SHARE
)
SELECT token, expires_at, state = 'h' AND expires_at > clock_timestamp() FROM lock";
