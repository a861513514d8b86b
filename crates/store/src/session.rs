//! Session settings of every connection. They are set after connecting, because poolers
//! refuse unknown start-up parameters.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::operation::STATEMENT_TIMEOUT;

/// Time for which a host that dies inside a transaction still holds its locks, including its lane's
/// row lock. Shorter than a lease's `ttl`, so a takeover waits only for the lease.
pub(crate) const IDLE_IN_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(5);

/// Session settings as (name, value).
pub type SessionSettings = Vec<(&'static str, String)>;

/// Parallel workers and JIT compilation cost more than they save for this program's statements when
/// the planner misestimates (12 ms for a balance of 1 ms). `client_connection_check_interval`
/// cancels statements of clients that disconnected.
fn default_settings() -> SessionSettings {
    vec![
        ("statement_timeout", STATEMENT_TIMEOUT.as_millis().to_string()),
        (
            "idle_in_transaction_session_timeout",
            IDLE_IN_TRANSACTION_TIMEOUT.as_millis().to_string(),
        ),
        ("client_connection_check_interval", "2000".to_owned()),
        ("tcp_keepalives_idle", "5".to_owned()),
        ("tcp_keepalives_interval", "2".to_owned()),
        ("tcp_keepalives_count", "3".to_owned()),
        ("tcp_user_timeout", "10000".to_owned()),
        ("max_parallel_workers_per_gather", "0".to_owned()),
        ("jit", "off".to_owned()),
    ]
}

/// Statement timeout in these settings, which are set by this program in milliseconds.
pub(crate) fn find_statement_timeout(settings: &SessionSettings) -> Option<Duration> {
    let (_, value) = settings.iter().rev().find(|(name, _)| *name == "statement_timeout")?;
    value.parse().ok().map(Duration::from_millis)
}

/// Removes the one start-up parameter of sqlx that pgbouncer does not accept.
pub(crate) fn remove_startup_parameters(options: PgConnectOptions) -> PgConnectOptions {
    options.extra_float_digits(None)
}

/// First server version with `client_connection_check_interval`.
const MIN_CLIENT_CHECK_VERSION: u32 = 140_000;

/// Applies the default settings and `extra_settings` to a session in one round trip.
pub(crate) async fn open_session(
    connection: &mut PgConnection,
    extra_settings: &SessionSettings,
) -> sqlx::Result<()> {
    let checks =
        connection.server_version_num().is_none_or(|version| version >= MIN_CLIENT_CHECK_VERSION);
    let mut statements = String::from("-- open_session\n");
    for (name, value) in default_settings().iter().chain(extra_settings) {
        if checks || *name != "client_connection_check_interval" {
            let value = value.replace('\'', "''");
            statements.push_str(&format!("SET {name} = '{value}';\n"));
        }
    }
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(connection).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LeaseOptions;

    #[test]
    fn a_dead_hosts_transaction_ends_before_its_lease() {
        let LeaseOptions { ttl, renewal_interval: renew_every } = LeaseOptions::default();
        assert!(
            IDLE_IN_TRANSACTION_TIMEOUT < ttl
                && ttl + renew_every + IDLE_IN_TRANSACTION_TIMEOUT <= Duration::from_secs(15)
        );
    }
}
