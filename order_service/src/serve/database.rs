//! The control database: embedded, or somebody's Postgres; opened patiently and at the right schema version.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use store::embedded::{Embedded, USER};
use store::{Migrations, PgConnectOptions, PoolSettings};

use crate::settings::DatabaseSettings;

/// The name of the control database in an embedded cluster.
const CONTROL: &str = "control";

/// An open control database.
pub struct Database {
    /// Its connections.
    pub pool: PgPool,
    /// Keeps an embedded cluster running.
    pub embedded: Option<Arc<Embedded>>,
}

/// Opens the control database. An embedded one is started, created and migrated as needed.
pub async fn open(settings: &DatabaseSettings) -> anyhow::Result<Database> {
    let database = reach(settings).await?;
    let mut connection = database.pool.acquire().await.context("control database")?;
    if database.embedded.is_some() {
        Migrations::control().apply(&mut connection).await?;
    } else {
        Migrations::control().check(&mut connection).await?;
    }
    drop(connection);
    Ok(database)
}

/// Opens the control database whatever its schema version.
pub async fn reach(settings: &DatabaseSettings) -> anyhow::Result<Database> {
    let (options, embedded) = match &settings.url {
        Some(options) => (options.clone(), None),
        None => {
            let embedded = join(settings).await?;
            create(&embedded, CONTROL, settings.startup_timeout).await?;
            (embedded.options(CONTROL), Some(embedded))
        }
    };
    let pool = PoolSettings {
        max_connections: settings.connections,
        patience: settings.startup_timeout,
        application_name: "order_service".to_owned(),
    };
    let pool = store::connect(with_backstops(options), &pool).await?;
    Ok(Database { pool, embedded })
}

/// A host that dies silently inside a transaction holds its locks, its lane's among them, for so long. Below a lease's
/// time: its orders wait for the lease, and for no more.
const IDLE_IN_TRANSACTION_TIMEOUT_MS: &str = "5000";

/// No statement of this program comes near these times; and for none of them is it worth to start parallel workers or to
/// compile it, which the planner does on a wrong guess (12 ms for a balance of 1 ms).
pub(super) fn with_backstops(options: PgConnectOptions) -> PgConnectOptions {
    options.options([
        ("statement_timeout", "60000"),
        ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_TIMEOUT_MS),
        ("client_connection_check_interval", "2000"),
        ("tcp_keepalives_idle", "5"),
        ("tcp_keepalives_interval", "2"),
        ("tcp_keepalives_count", "3"),
        ("tcp_user_timeout", "10000"),
        ("max_parallel_workers_per_gather", "0"),
        ("jit", "off"),
    ])
}

async fn join(settings: &DatabaseSettings) -> anyhow::Result<Arc<Embedded>> {
    let program = std::env::current_exe().context("finding this program's own file")?;
    let (data_dir, patience) = (settings.data_dir.clone(), settings.startup_timeout);
    let joined = tokio::task::spawn_blocking(move || Embedded::join(&data_dir, &program, patience)).await;
    Ok(joined.context("starting the embedded PostgreSQL")??)
}

/// Creates a database of the cluster unless it is there. Two services may start at once: whoever comes second finds it. A
/// server whose first process was just killed still takes connections for a moment; another one follows.
pub(super) async fn create(embedded: &Embedded, name: &str, patience: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        match create_now(embedded, name).await {
            Err(error) if error.is_transient() && Instant::now() < deadline => {
                tracing::info!(%error, name, "waiting for the embedded PostgreSQL");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            done => return done.with_context(|| format!("creating the database {name}")),
        }
    }
}

async fn create_now(embedded: &Embedded, name: &str) -> store::Result<()> {
    let mut admin = PgConnection::connect_with(&embedded.options("postgres")).await?;
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
        .bind(name)
        .fetch_one(&mut admin)
        .await?;
    if !exists {
        tracing::info!(user = USER, data_dir = %embedded.data_dir().display(), name, "creating a database");
        // One copy of the template at a time: Postgres refuses a second one.
        sqlx::query("SELECT pg_advisory_lock(1) -- create_database").execute(&mut admin).await?;
        let created = sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut admin).await;
        // duplicate_database, or unique_violation when both create at the very same time
        let known = |error: &sqlx::Error| {
            let code = error.as_database_error().and_then(|e| e.code());
            code.is_some_and(|code| code == "42P04" || code == "23505")
        };
        if let Err(error) = created
            && !known(&error)
        {
            return Err(error.into());
        }
    }
    Ok(admin.close().await?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use store::LeaseTerms;

    use super::IDLE_IN_TRANSACTION_TIMEOUT_MS;

    #[test]
    fn a_dead_hosts_transaction_ends_before_its_lease() {
        let transaction = Duration::from_millis(IDLE_IN_TRANSACTION_TIMEOUT_MS.parse().unwrap());
        let LeaseTerms { ttl, renew_every } = LeaseTerms::default();
        assert!(transaction < ttl && ttl + renew_every + transaction <= Duration::from_secs(15));
    }
}
