//! Opening pools: patient with a database that is not there yet, at once with one that says no.

use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection, PgPool};

use crate::libpq::removed_variables_hint;
use crate::operation::ACQUIRE_TIMEOUT;
use crate::pool;
use crate::session;
use crate::url::warn_of_channel_binding;

/// How a pool is opened.
#[derive(Debug, Clone)]
pub struct PoolSettings {
    /// What it is for: tells it apart in `pg_stat_activity` and in the metric `store_connections`.
    pub name: &'static str,
    /// Most connections held.
    pub max_connections: u32,
    /// How long to wait for a database that cannot be reached.
    pub connect_timeout: Duration,
    /// The program, as shown by the server in `pg_stat_activity` before the pool's name.
    pub application_name: String,
    /// Set on each connection, besides what holds for all of them.
    pub session: session::SessionSettings,
}

/// Why a pool could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Reached, and refused: waiting would not help (credentials, no such database).
    #[error("{database} refused the connection: {reason}")]
    Refused {
        /// Where.
        database: String,
        /// The server's words.
        reason: String,
    },
    /// Not reached in time.
    #[error("{database} is not reachable after {}s: {reason}", waited.as_secs())]
    Unreachable {
        /// Where.
        database: String,
        /// The last error.
        reason: String,
        /// How long it was tried.
        waited: Duration,
    },
    /// Reached, but nothing can be written.
    #[error("{database} {reason}, and so for {}s", waited.as_secs())]
    ReadOnly {
        /// Where.
        database: String,
        /// Why.
        reason: String,
        /// How long it was looked at.
        waited: Duration,
    },
    /// A pooler gives one server connection to several of ours, transaction by transaction: settings, `LISTEN` and
    /// prepared statements of a session would be lost.
    #[error(
        "{database} is behind a pooler that hands server connections out for single transactions or statements: \
         sessions are needed (pgbouncer: pool_mode = session)"
    )]
    TransactionPooler {
        /// Where.
        database: String,
    },
}

/// Opens a pool and proves that it works. Waits with backoff while the server cannot be reached, saying for what;
/// gives up at once when it answers with a refusal.
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
        // A connection by itself first: a pool would hide why it cannot be made.
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

/// Whether the database can be worked with: a session can be begun, and it is one.
async fn probe_database(options: &PgConnectOptions, settings: &PoolSettings) -> sqlx::Result<bool> {
    let mut connection = PgConnection::connect_with(options).await?;
    session::open_session(&mut connection, &settings.session).await?;
    // Nobody puts a pooler between this program and its own server.
    let sessions = is_embedded(options) || has_own_backend(&mut connection, options).await?;
    connection.close().await?;
    Ok(sessions)
}

/// Whether the connection has a server process to itself: not if another one gets the same, or it gets another one when
/// its own is busy.
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

/// Another pool to the database of `pool`, called `name`, of at most `max_connections`, so that who uses it and who uses
/// `pool` do not wait for one another. Whoever holds a connection of `pool` may take one of this, never the other way round.
/// It is closed with `pool`.
pub fn reserve_pool(pool: &PgPool, name: &str, max_connections: u32) -> PgPool {
    pool::open_pool_beside(pool, name, max_connections, Vec::new(), Arc::default())
}

/// What connections may take to say goodbye, before they are dropped with the process: some may never answer again.
const POOL_CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Closes a pool and those beside it, as far as their connections answer.
pub async fn close_pool(pool: &PgPool) {
    let _ = tokio::time::timeout(POOL_CLOSE_TIMEOUT, pool.close()).await;
}

/// A connection of its own to the database of `pool`, for a task that works on it all the time: made when first used,
/// made again when lost. One server process that does the same thing again and again has its plans and caches at hand,
/// which halves the time of small statements; a pool hands its connections out in turn, and each is cold. It is closed
/// with `pool`.
pub fn open_single_connection_pool(pool: &PgPool) -> PgPool {
    reserve_pool(pool, "own", 1)
}

/// invalid_authorization, invalid_password, invalid_catalog_name, insufficient_privilege
fn is_refusal_code(code: Option<&str>) -> bool {
    matches!(code, Some("28000" | "28P01" | "3D000" | "42501"))
}

/// Warns, once, whoever set libpq's variables for a database that has a URL: a word for an error's end.
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

/// Names the database without its credentials.
pub(crate) fn describe_database(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or("postgres");
    match options.get_socket() {
        Some(_) if is_embedded(options) => format!("embedded database {database}"),
        Some(socket) => format!("database {}/{database}", socket.display()),
        None => format!("database {}:{}/{database}", options.get_host(), options.get_port()),
    }
}
