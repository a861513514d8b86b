//! What holds on every connection of a process. Set after connecting and not by start-up parameters, which poolers refuse.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::operation::STATEMENT_TIMEOUT;

/// A host that dies silently inside a transaction holds its locks, its lane's among them, for so long. Below a lease's
/// time: its orders wait for the lease, and for no more.
pub(crate) const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(5);

/// Settings of a session, by name.
pub type Settings = Vec<(&'static str, String)>;

/// For none of this program's statements is it worth to start parallel workers or to compile it, which the planner does
/// on a wrong guess (12 ms for a balance of 1 ms). A statement whose asker has given up is work for nobody.
fn usual() -> Settings {
    vec![
        ("statement_timeout", STATEMENT_TIMEOUT.as_millis().to_string()),
        ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION.as_millis().to_string()),
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
pub(crate) fn statement_timeout(settings: &Settings) -> Option<Duration> {
    let (_, value) = settings.iter().rev().find(|(name, _)| *name == "statement_timeout")?;
    value.parse().ok().map(Duration::from_millis)
}

/// Start-up parameters that pgbouncer knows, too: those of sqlx but one.
pub(crate) fn without_startup_parameters(options: PgConnectOptions) -> PgConnectOptions {
    options.extra_float_digits(None)
}

/// The first server that knows `client_connection_check_interval`.
const CHECKS_CLIENTS: u32 = 140_000;

/// Begins a session with the usual settings and `more`, in one round trip.
pub(crate) async fn open(connection: &mut PgConnection, more: &Settings) -> sqlx::Result<()> {
    let checks = connection.server_version_num().is_none_or(|version| version >= CHECKS_CLIENTS);
    let mut statements = String::from("-- open_session\n");
    for (name, value) in usual().iter().chain(more) {
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
    use crate::LeaseTerms;

    #[test]
    fn a_dead_hosts_transaction_ends_before_its_lease() {
        let LeaseTerms { ttl, renew_every } = LeaseTerms::default();
        assert!(
            IDLE_IN_TRANSACTION < ttl && ttl + renew_every + IDLE_IN_TRANSACTION <= Duration::from_secs(15)
        );
    }
}
