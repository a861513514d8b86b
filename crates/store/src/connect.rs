//! Opening pools: patient with a database that is not there yet, at once with one that says no.

use std::str::FromStr as _;
use std::sync::Once;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, PgConnection, PgPool};

use crate::libpq::removed_variables;

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
    let hint = unused_variables(&options);
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
        // One connection by itself first: a pool would hide why it cannot be made.
        let probe = PgConnection::connect_with(&options);
        let reached = match tokio::time::timeout(left.min(Duration::from_secs(5)), probe).await {
            Ok(Ok(connection)) => {
                drop(connection);
                pool.connect_with(options.clone()).await
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(sqlx::Error::PoolTimedOut),
        };
        let reason = match reached {
            Ok(pool) => return Ok(pool),
            Err(sqlx::Error::PoolTimedOut) => "no answer".to_owned(),
            Err(sqlx::Error::Io(error)) => error.to_string(),
            Err(sqlx::Error::Database(error)) if is_refusal(error.code().as_deref()) => {
                return Err(ConnectError::Refused { database, reason: error.message().to_owned() + &hint });
            }
            Err(error) => error.to_string(),
        };
        let waited = started.elapsed();
        if waited >= settings.patience {
            return Err(ConnectError::Unreachable { database, reason: reason + &hint, waited });
        }
        if wait > Duration::from_millis(300) {
            tracing::info!(database, reason, "waiting for the database");
        }
        tokio::time::sleep(wait.min(settings.patience - waited)).await;
        wait = (wait * 2).min(Duration::from_secs(2));
    }
}

/// A connection of its own to the database of `pool`, for a task that works on it all the time: made when first used,
/// made again when lost. One server process that does the same thing again and again has its plans and caches at hand,
/// which halves the time of small statements; a pool hands its connections out in turn, and each is cold. It is closed
/// with `pool`.
pub fn connection_of_its_own(pool: &PgPool) -> PgPool {
    let options = pool.options().clone().min_connections(0).max_connections(1);
    let own = options.connect_lazy_with((*pool.connect_options()).clone());
    let (closed, closing) = (pool.close_event(), own.clone());
    tokio::spawn(async move {
        closed.await;
        closing.close().await;
    });
    own
}

/// The parameters of a database URL that are understood.
const PARAMETERS: [&str; 12] = [
    "application_name",
    "dbname",
    "host",
    "options",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

/// Reads a `postgres://` URL. What is wrong is said without a word of the URL: it may hold a secret.
pub fn parse_url(url: &str) -> Result<PgConnectOptions, String> {
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
    let rest = rest.ok_or("must begin with postgres:// or postgresql://")?;
    let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    if place.split_once('/').is_some_and(|(_, path)| path.contains(['@', '/'])) {
        return Err(
            "holds an unescaped character: write / as %2F and @ as %40 in user and password".to_owned()
        );
    }
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        let name = parameter.split('=').next().unwrap_or_default();
        if !PARAMETERS.contains(&name) {
            return Err(format!("unknown parameter `{name}`; known are {}", PARAMETERS.join(", ")));
        }
    }
    PgConnectOptions::from_str(url).map_err(|_| "is not a valid URL".to_owned())
}

/// invalid_authorization, invalid_password, invalid_catalog_name, insufficient_privilege
fn is_refusal(code: Option<&str>) -> bool {
    matches!(code, Some("28000" | "28P01" | "3D000" | "42501"))
}

/// Warns, once, whoever set libpq's variables for a database that has a URL: a word for an error's end.
fn unused_variables(options: &PgConnectOptions) -> String {
    static WARNED: Once = Once::new();
    if is_embedded(options) {
        return String::new();
    }
    removed_variables().map_or_else(String::new, |removed| {
        WARNED.call_once(|| tracing::warn!("{removed}"));
        format!(" ({removed})")
    })
}

fn is_embedded(options: &PgConnectOptions) -> bool {
    options.get_socket().is_some_and(|socket| socket.starts_with("/proc/self/fd"))
}

/// Names the database without its credentials.
fn describe(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or("postgres");
    match options.get_socket() {
        Some(_) if is_embedded(options) => format!("embedded database {database}"),
        Some(socket) => format!("database {}/{database}", socket.display()),
        None => format!("database {}:{}/{database}", options.get_host(), options.get_port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_refused_without_showing_its_secrets() {
        let bad = [
            "mysql://u:canary@h/db",
            "postgres://u:canary@h/db?sslpassword=canary",
            "postgres://u:canary@81/x@h:1/db",
            "postgres://u:canary@h:port/db",
        ];
        for url in bad {
            let error = parse_url(url).unwrap_err();
            assert!(!error.contains("canary"), "{error}");
        }
        let options = parse_url("postgresql://u:p%40ss@h:5433/db?sslmode=require").unwrap();
        assert_eq!((options.get_host(), options.get_port(), options.get_database()), ("h", 5433, Some("db")));
    }
}
