//! Writing under a lock.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use store::{Result, mutant};
use uuid::Uuid;

/// Whether a lock can be written under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockStatus {
    /// It is held, and ends only after the transaction that asked.
    Alive {
        /// Its fencing token.
        token: i64,
        /// When it expires.
        expires_at: DateTime<Utc>,
    },
    /// It has ended.
    Ended,
    /// There is none, or it ended long ago.
    Unknown,
}

/// Whether a lock of this database's shard is alive. If so, nobody is granted what conflicts with it before the
/// transaction on `connection` ends, be it past its expiry. Call it before writing; it locks the lock's row.
pub async fn check_lock_in_tx(connection: &mut PgConnection, lock_id: Uuid) -> Result<LockStatus> {
    let found: Option<(i64, DateTime<Utc>, bool)> =
        sqlx::query_as(CHECK_LOCK_SQL).bind(lock_id).fetch_optional(connection).await?;
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

/// The clock is read after the row is locked: an end that was waited for is seen.
const CHECK_LOCK_SQL: &str = "-- lock_alive
WITH lock AS MATERIALIZED (
    SELECT token, expires_at, state FROM locks WHERE lock_id = $1 AND state <> 'w' FOR KEY SHARE
)
SELECT token, expires_at, state = 'h' AND expires_at > clock_timestamp() FROM lock";
