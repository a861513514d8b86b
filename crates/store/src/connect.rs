//! Opening of connection pools: waits with backoff for an unreachable database, fails
//! immediately on a refusal.

use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection, PgPool};

use crate::libpq::removed_variables_hint;
use crate::operation::ACQUIRE_TIMEOUT;
use crate::pool;
use crate::session;
use crate::url::warn_of_channel_binding;

/// Settings of a pool.
#[derive(Debug, Clone)]
pub struct PoolSettings {
    /// Purpose; shown in `pg_stat_activity` and as a label of the metric `store_connections`.
    pub name: &'static str,
    /// Maximum number of connections.
    pub max_connections: u32,
    /// Maximum wait for an unreachable database.
    pub connect_timeout: Duration,
    /// Name of the program, shown in `pg_stat_activity` before the pool's name.
    pub application_name: String,
    /// Settings of each session, besides those common to all.
    pub session: session::SessionSettings,
}

/// Errors of opening a pool.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The server refused the connection; a retry would not help (credentials, missing database).
    #[error("{database} refused the connection: {reason}")]
    Refused {
        /// Host, port and name of the database.
        database: String,
        /// Message of the server.
        reason: String,
    },
    /// Not reachable within the timeout.
    #[error("{database} is not reachable after {}s: {reason}", waited.as_secs())]
    Unreachable {
        /// Host, port and name of the database.
        database: String,
        /// Error of the last attempt.
        reason: String,
        /// Total time of the attempts.
        waited: Duration,
    },
    /// Reachable, but refuses writes (standby or read-only).
    #[error("{database} {reason}, and so for {}s", waited.as_secs())]
    ReadOnly {
        /// Host, port and name of the database.
        database: String,
        /// Reason of the read-only state.
        reason: String,
        /// Total time of the wait.
        waited: Duration,
    },
    /// A transaction-mode pooler is in front of the server: it shares server connections between
    /// clients, which loses session settings, `LISTEN` and prepared statements.
    #[error(
        "{database} is behind a pooler that hands server connections out for single transactions or statements: \
         sessions are needed (pgbouncer: pool_mode = session)"
    )]
    TransactionPooler {
        /// Host, port and name of the database.
        database: String,
    },
}

/// Opens a pool and probes it. Waits with backoff and logs the reason while the server is
/// unreachable; fails immediately when the server refuses the connection.
pub async fn connect_pool(
    options: PgConnectOptions,
    settings: &PoolSettings,
) -> Result<PgPool, ConnectError> {
    let database = describe_database(&options);
    let hint = ignored_variables_hint(&options);
    warn_of_channel_binding();
    let options = session::remove_startup_parameters(options)
        .application_name(&format!("{}/{}", settings.application_name, settings.name));
    let started = Instant::now();
    let mut wait = Duration::from_millis(20);
    loop {
        let left =
            settings.connect_timeout.saturating_sub(started.elapsed()).max(Duration::from_secs(1));
        // A single connection first: a pool would hide the error.
        let reason = match tokio::time::timeout(
            left.min(ACQUIRE_TIMEOUT),
            probe_database(&options, settings),
        )
        .await
        {
            Ok(Ok(true)) => {
                let (session, max_connections) =
                    (settings.session.clone(), settings.max_connections);
                return Ok(pool::open_pool(options, session, max_connections));
            }
            Ok(Ok(false)) => return Err(ConnectError::TransactionPooler { database }),
            Err(_) => "no answer".to_owned(),
            Ok(Err(sqlx::Error::Io(error))) => error.to_string(),
            Ok(Err(sqlx::Error::Database(error))) if is_refusal_code(error.code().as_deref()) => {
                return Err(ConnectError::Refused {
                    database,
                    reason: error.message().to_owned() + &hint,
                });
            }
            Ok(Err(error)) => error.to_string(),
        };
        let waited = started.elapsed();
        if waited >= settings.connect_timeout {
            return Err(ConnectError::Unreachable { database, reason: reason + &hint, waited });
        }
        if wait > Duration::from_millis(300) {
            tracing::info!(database, reason, "waiting for the database");
        }
        tokio::time::sleep(wait.min(settings.connect_timeout - waited)).await;
        wait = (wait * 2).min(Duration::from_secs(2));
    }
}

/// Probes the database: opens a session and checks that it is not behind a transaction pooler.
async fn probe_database(options: &PgConnectOptions, settings: &PoolSettings) -> sqlx::Result<bool> {
    let mut connection = PgConnection::connect_with(options).await?;
    session::open_session(&mut connection, &settings.session).await?;
    // An embedded cluster has no pooler in front.
    let sessions = is_embedded(options) || has_own_backend(&mut connection, options).await?;
    connection.close().await?;
    Ok(sessions)
}

/// Whether the connection has a backend of its own. It has not if a second connection gets the same
/// backend, or if the first gets another backend while its own is busy.
async fn has_own_backend(
    connection: &mut PgConnection,
    options: &PgConnectOptions,
) -> sqlx::Result<bool> {
    let first_pid = backend_pid(connection).await?;
    let mut other = PgConnection::connect_with(options).await?;
    let mut tx = other.begin().await?;
    let other_pid = backend_pid(&mut tx).await?;
    let repeated_pid = backend_pid(connection).await?;
    tx.rollback().await?;
    other.close().await?;
    Ok(first_pid != other_pid && first_pid == repeated_pid)
}

async fn backend_pid(connection: &mut PgConnection) -> sqlx::Result<i32> {
    sqlx::query_scalar("SELECT pg_backend_pid() -- probe_pooler")
        .persistent(false)
        .fetch_one(connection)
        .await
}

/// Opens another pool to the database of `pool`, so that the users of both do not wait for each
/// other. A holder of a connection of `pool` may acquire one of this pool, never the reverse (lock
/// order). It is closed with `pool`.
pub fn reserve_pool(pool: &PgPool, name: &str, max_connections: u32) -> PgPool {
    pool::open_pool_beside(pool, name, max_connections, Vec::new(), Arc::default())
}

/// Timeout of closing a pool; silent connections are dropped with the process.
const POOL_CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Closes a pool and the pools opened beside it, within a timeout.
pub async fn close_pool(pool: &PgPool) {
    let _ = tokio::time::timeout(POOL_CLOSE_TIMEOUT, pool.close()).await;
}

/// Opens a pool of one connection to the database of `pool`, for a task that uses it continuously.
/// It connects on first use and reconnects when lost. One backend that repeats the same statements
/// keeps its plans and caches warm, which halves the time of small statements; a pool rotates its
/// connections, and each is cold. It is closed with `pool`.
pub fn open_single_connection_pool(pool: &PgPool) -> PgPool {
    reserve_pool(pool, "own", 1)
}

/// invalid_authorization, invalid_password, invalid_catalog_name, insufficient_privilege
fn is_refusal_code(code: Option<&str>) -> bool {
    matches!(code, Some("28000" | "28P01" | "3D000" | "42501"))
}

/// Warns once about ignored libpq variables; returns a suffix for the connection error.
/// Not for embedded clusters.
fn ignored_variables_hint(options: &PgConnectOptions) -> String {
    static WARN_ONCE: Once = Once::new();
    if is_embedded(options) {
        return String::new();
    }
    removed_variables_hint().map_or_else(String::new, |removed| {
        WARN_ONCE.call_once(|| tracing::warn!("{removed}"));
        format!(" ({removed})")
    })
}

fn is_embedded(options: &PgConnectOptions) -> bool {
    options.get_socket().is_some_and(|socket| socket.starts_with("/proc/self/fd"))
}

/// Description of the database without credentials.
pub(crate) fn describe_database(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or("postgres");
    match options.get_socket() {
        Some(_) if is_embedded(options) => format!("embedded database {database}"),
        Some(socket) => format!("database {}/{database}", socket.display()),
        None => format!("database {}:{}/{database}", options.get_host(), options.get_port()),
    }
}
