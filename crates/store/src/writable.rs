//! Detection of read-only databases: a standby answers queries and refuses writes.

use std::time::{Duration, Instant};

use sqlx::{PgConnection, PgPool};

use crate::connect::{ConnectError, describe_database};
use crate::{PgOperation, Result, run_statement, statement};

/// Minimum interval between probes of a read-only database.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Timeout of one probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// Reason why the database behind `connection` is read-only, if it is.
pub async fn read_only_reason(connection: &mut PgConnection) -> Result<Option<&'static str>> {
    let (is_standby, is_read_only): (bool, bool) =
        statement("writable", READ_ONLY_SQL).fetch_one(connection).await?;
    Ok(match (is_standby, is_read_only) {
        (true, _) => Some("is a standby (in recovery) and takes no writes"),
        (false, true) => Some("is read-only (default_transaction_read_only)"),
        (false, false) => None,
    })
}

/// Waits until the database of `pool` is writable: a standby may be promoted meanwhile.
pub async fn wait_until_writable(pool: &PgPool, max_wait: Duration) -> Result<(), ConnectError> {
    let (started, database) = (Instant::now(), describe_database(&pool.connect_options()));
    loop {
        let operation = PgOperation::named("look_whether_writable").with_timeout(PROBE_TIMEOUT);
        let reason = match run_statement(pool, operation, |connection| {
            Box::pin(read_only_reason(connection))
        })
        .await
        {
            Ok(None) => return Ok(()),
            Ok(Some(reason)) => reason.to_owned(),
            Err(error) => error.to_string(),
        };
        let waited = started.elapsed();
        if waited >= max_wait {
            return Err(ConnectError::ReadOnly { database, reason, waited });
        }
        tracing::warn!(
            database,
            reason,
            code = "UNAVAILABLE",
            "waiting for a database that can be written"
        );
        tokio::time::sleep(POLL_INTERVAL.max(waited / 4).min(max_wait - waited)).await;
    }
}

const READ_ONLY_SQL: &str =
    "SELECT pg_is_in_recovery(), current_setting('transaction_read_only')::bool";
