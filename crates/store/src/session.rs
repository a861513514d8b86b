//! What holds on every connection of a process. Set after connecting and not by start-up parameters, which poolers refuse.

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::operation::STATEMENT_TIMEOUT;

/// Settings of a session, by name.
pub type Settings = Vec<(&'static str, String)>;

/// For none of this program's statements is it worth to start parallel workers or to compile it, which the planner does
/// on a wrong guess (12 ms for a balance of 1 ms). A transaction left open by a host that is gone holds up whoever takes
/// its leases over, and a statement whose asker has given up is work for nobody.
fn usual() -> Settings {
    vec![
        ("statement_timeout", STATEMENT_TIMEOUT.as_millis().to_string()),
        ("idle_in_transaction_session_timeout", "10000".to_owned()),
        ("client_connection_check_interval", "2000".to_owned()),
        ("tcp_keepalives_idle", "10".to_owned()),
        ("tcp_keepalives_interval", "3".to_owned()),
        ("tcp_keepalives_count", "3".to_owned()),
        ("tcp_user_timeout", "20000".to_owned()),
        ("max_parallel_workers_per_gather", "0".to_owned()),
        ("jit", "off".to_owned()),
    ]
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
