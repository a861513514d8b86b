//! Opening pools: patient with a database that is not there yet, at once with one that says no.

use std::time::{Duration, Instant};

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

/// How a pool is opened.
#[derive(Debug, Clone)]
pub struct PoolSettings {
    /// Most connections held.
    pub max_connections: u32,
    /// How long to wait for a database that cannot be reached.
    pub patience: Duration,
    /// Shown by the server in `pg_stat_activity`.
    pub application_name: String,
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
}

/// Opens a pool and proves that it works. Waits with backoff while the server cannot be reached, saying for what;
/// gives up at once when it answers with a refusal.
pub async fn connect(options: PgConnectOptions, settings: &PoolSettings) -> Result<PgPool, ConnectError> {
    let database = describe(&options);
    let options = options.application_name(&settings.application_name);
    let started = Instant::now();
    let mut wait = Duration::from_millis(20);
    loop {
        let left = settings.patience.saturating_sub(started.elapsed()).max(Duration::from_secs(1));
        let pool = PgPoolOptions::new()
            .max_connections(settings.max_connections)
            .acquire_timeout(left.min(Duration::from_secs(5)))
            .idle_timeout(Duration::from_secs(300))
            // A ping before each use would cost a round trip; a dead connection shows as a transient error instead.
            .test_before_acquire(false);
        let reason = match pool.connect_with(options.clone()).await {
            Ok(pool) => return Ok(pool),
            Err(sqlx::Error::Database(error)) if is_refusal(error.code().as_deref()) => {
                return Err(ConnectError::Refused { database, reason: error.message().to_owned() });
            }
            Err(error) => error.to_string(),
        };
        let waited = started.elapsed();
        if waited + wait > settings.patience {
            return Err(ConnectError::Unreachable { database, reason, waited });
        }
        if wait > Duration::from_millis(300) {
            tracing::info!(database, reason, "waiting for the database");
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(2));
    }
}

/// invalid_authorization, invalid_password, invalid_catalog_name, insufficient_privilege
fn is_refusal(code: Option<&str>) -> bool {
    matches!(code, Some("28000" | "28P01" | "3D000" | "42501"))
}

/// Names the database without its credentials.
fn describe(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or("postgres");
    match options.get_socket() {
        Some(_) => format!("embedded database {database}"),
        None => format!("database {}:{}/{database}", options.get_host(), options.get_port()),
    }
}
