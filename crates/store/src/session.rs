//! What holds on every connection of a process. Set after connecting and not by start-up parameters, which poolers refuse.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::operation::STATEMENT_TIMEOUT;

/// A host that dies silently inside a transaction holds its locks, its lane's among them, for so long. Below a lease's
/// time: its orders wait for the lease, and for no more.
pub(crate) const IDLE_IN_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(5);

/// Settings of a session, by name.
pub type SessionSettings = Vec<(&'static str, String)>;

/// For none of this program's statements is it worth to start parallel workers or to compile it, which the planner does
/// on a wrong guess (12 ms for a balance of 1 ms). A statement whose asker has given up is work for nobody.
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

/// The statements' limit among these settings, which are ours: in milliseconds.
pub(crate) fn find_statement_timeout(settings: &SessionSettings) -> Option<Duration> {
    let (_, value) = settings.iter().rev().find(|(name, _)| *name == "statement_timeout")?;
    value.parse().ok().map(Duration::from_millis)
}

/// Start-up parameters that pgbouncer knows, too: those of sqlx but one.
pub(crate) fn remove_startup_parameters(options: PgConnectOptions) -> PgConnectOptions {
    options.extra_float_digits(None)
}

/// The first server that knows `client_connection_check_interval`.
const MIN_CLIENT_CHECK_VERSION: u32 = 140_000;

/// Begins a session with the usual settings and `extra_settings`, in one round trip.
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
