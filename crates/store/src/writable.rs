//! Whether a database takes what is written: a standby answers every question and refuses every order.

use std::time::{Duration, Instant};

use sqlx::{PgConnection, PgPool};

use crate::connect::{ConnectError, describe};
use crate::{Operation, Result, run};

/// From one look at a database that cannot be written to the next.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// For one look.
const LOOK_TIMEOUT: Duration = Duration::from_secs(3);

/// Why nothing can be written, if so; asked on a connection in hand.
pub async fn why_read_only(connection: &mut PgConnection) -> Result<Option<&'static str>> {
    let (is_standby, is_read_only): (bool, bool) = sqlx::query_as(READ_ONLY).fetch_one(connection).await?;
    Ok(match (is_standby, is_read_only) {
        (true, _) => Some("is a standby (in recovery) and takes no writes"),
        (false, true) => Some("is read-only (default_transaction_read_only)"),
        (false, false) => None,
    })
}

/// Waits until the database of `pool` can be written: a standby may become the primary while it is waited for.
pub async fn wait_until_writable(pool: &PgPool, patience: Duration) -> Result<(), ConnectError> {
    let (started, database) = (Instant::now(), describe(&pool.connect_options()));
    loop {
        let looking = Operation::named("look_whether_writable").within(LOOK_TIMEOUT);
        let reason = match run(pool, looking, |connection| Box::pin(why_read_only(connection))).await {
            Ok(None) => return Ok(()),
            Ok(Some(reason)) => reason.to_owned(),
            Err(error) => error.to_string(),
        };
        let waited = started.elapsed();
        if waited >= patience {
            return Err(ConnectError::ReadOnly { database, reason, waited });
        }
        tracing::warn!(database, reason, code = "UNAVAILABLE", "waiting for a database that can be written");
        tokio::time::sleep(LOOK_EVERY.max(waited / 4).min(patience - waited)).await;
    }
}

const READ_ONLY: &str =
    "SELECT pg_is_in_recovery(), current_setting('transaction_read_only')::bool -- writable";
