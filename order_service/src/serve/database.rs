//! Control database, embedded or external: waits for it and checks its schema version.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sqlx::{Connection as _, PgConnection, PgPool};
use store::embedded::{CLUSTER_USER, EmbeddedCluster};
use store::{DedicatedConnection, MigrationSet, PoolSettings};
use tokio::time::timeout;

use crate::settings::{DatabaseSettings, database_connections};

/// Name of the control database in an embedded cluster.
const CONTROL_DATABASE_NAME: &str = "control";

/// Permission to create and migrate databases of an embedded cluster. External databases are
/// created by their operators and migrated only by `migrate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseAccess {
    /// Creates the cluster, its databases and schemas where missing: for services and writing
    /// commands.
    CreateMissing,
    /// Creates and migrates nothing: for read-only commands.
    Existing,
}

/// An open control database.
pub struct ControlDatabase {
    /// Shared pool, without the connections that single tasks reserve.
    pub pool: PgPool,
    /// Reserved connection for lease renewals and readiness probes; no other work can delay them.
    pub leases: PgPool,
    /// Reserved connection on which all job queues claim their jobs.
    pub claims: PgPool,
    /// Keeps an embedded cluster running while held.
    pub embedded: Option<Arc<EmbeddedCluster>>,
    /// Access it was opened with; its shards are opened with the same.
    pub access: DatabaseAccess,
}

impl ControlDatabase {
    /// Closes all pools of this database.
    pub async fn close(&self) {
        store::close_pool(&self.pool).await;
    }
}

/// Opens the control database at this version's schema. With [`DatabaseAccess::CreateMissing`] an
/// embedded one is created and migrated; otherwise another schema version is an error.
pub async fn open_control_database(
    settings: &DatabaseSettings,
    access: DatabaseAccess,
) -> anyhow::Result<ControlDatabase> {
    let database = connect_control_database(settings, access).await?;
    let mut connection =
        take_migration_connection(&database.pool).await.context("control database")?;
    if database.embedded.is_some() && access == DatabaseAccess::CreateMissing {
        MigrationSet::control().apply_pending(&mut connection).await?;
    } else {
        MigrationSet::control().check_version(&mut connection).await?;
    }
    drop(connection);
    Ok(database)
}

/// Opens the control database without a check of the schema version.
pub async fn connect_control_database(
    settings: &DatabaseSettings,
    access: DatabaseAccess,
) -> anyhow::Result<ControlDatabase> {
    let (options, embedded) = match &settings.url {
        Some(options) => (options.clone(), None),
        None => {
            let embedded = join_embedded_cluster(settings, access).await?;
            require_database(&embedded, CONTROL_DATABASE_NAME, access, settings.startup_timeout)
                .await?;
            (embedded.connect_options(CONTROL_DATABASE_NAME), Some(embedded))
        }
    };
    let pool = PoolSettings {
        name: "control",
        max_connections: database_connections::control_pool_size(settings.connections),
        connect_timeout: settings.startup_timeout,
        application_name: "order_service".to_owned(),
        session: Vec::new(),
    };
    let pool = store::connect_pool(options, &pool).await?;
    if embedded.is_none() && access == DatabaseAccess::CreateMissing {
        store::wait_until_writable(&pool, settings.startup_timeout)
            .await
            .context("control database")?;
    }
    let leases = store::open_lease_pool(&pool);
    let claims = store::open_single_connection_pool(&pool);
    Ok(ControlDatabase { pool, leases, claims, embedded, access })
}

/// Dedicated connection for migrations, without a statement timeout.
pub async fn take_migration_connection(pool: &PgPool) -> store::Result<DedicatedConnection> {
    DedicatedConnection::acquire(pool, Duration::ZERO).await
}

async fn join_embedded_cluster(
    settings: &DatabaseSettings,
    access: DatabaseAccess,
) -> anyhow::Result<Arc<EmbeddedCluster>> {
    let program = std::env::current_exe().context("finding this program's own file")?;
    let (data_dir, max_wait) = (settings.data_dir.path()?.to_owned(), settings.startup_timeout);
    let joined = store::panics::spawn_blocking_contained(move || match access {
        DatabaseAccess::CreateMissing => EmbeddedCluster::join(&data_dir, &program, max_wait),
        DatabaseAccess::Existing => EmbeddedCluster::join_existing(&data_dir, &program, max_wait),
    });
    Ok(joined.await.context("starting the embedded PostgreSQL")??)
}

/// Fails if the cluster has no such database and `access` does not allow creating it.
pub(super) async fn require_database(
    embedded: &EmbeddedCluster,
    name: &str,
    access: DatabaseAccess,
    max_wait: Duration,
) -> anyhow::Result<()> {
    if find_or_create_database(embedded, name, access, max_wait).await? {
        return Ok(());
    }
    let data_dir = embedded.data_dir().display();
    anyhow::bail!(
        "the cluster in {data_dir} has no database {name} (its first start was cut short): \
         start the service, or run `order_service migrate`"
    )
}

/// Whether the cluster has the database; creates it if `access` allows. Safe against concurrent
/// starts. Retries transient errors until `max_wait`: a server whose postmaster was just killed
/// still accepts connections for a moment.
pub(super) async fn find_or_create_database(
    embedded: &EmbeddedCluster,
    name: &str,
    access: DatabaseAccess,
    max_wait: Duration,
) -> anyhow::Result<bool> {
    let deadline = Instant::now() + max_wait;
    loop {
        let attempt =
            timeout(CREATE_DATABASE_TIMEOUT, try_find_or_create_database(embedded, name, access))
                .await;
        match attempt.unwrap_or_else(|_| {
            Err(store::Error::WaitTimeout("for a database to be looked for or created"))
        }) {
            Err(error)
                if error.is_transient() && !error.is_disk_full() && Instant::now() < deadline =>
            {
                tracing::info!(%error, name, "waiting for the embedded PostgreSQL");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            done => return done.with_context(|| format!("the database {name}")),
        }
    }
}

/// Timeout of one attempt: connect, wait for the advisory lock, copy the template.
const CREATE_DATABASE_TIMEOUT: Duration = Duration::from_secs(20);

async fn try_find_or_create_database(
    embedded: &EmbeddedCluster,
    name: &str,
    access: DatabaseAccess,
) -> store::Result<bool> {
    let options = embedded.connect_options("postgres").application_name("order_service");
    let mut admin = PgConnection::connect_with(&options).await?;
    let is_present = has_database(&mut admin, name).await?;
    let create = access == DatabaseAccess::CreateMissing && !is_present;
    if create {
        // Postgres refuses concurrent copies of one template.
        store::statement("lock_database_creation", "SELECT pg_advisory_lock(1)")
            .execute(&mut admin)
            .await?;
        // The previous lock holder may have created it.
        if !has_database(&mut admin, name).await? {
            tracing::info!(user = CLUSTER_USER, data_dir = %embedded.data_dir().display(), name, "creating a database");
            store::statement("create_database", format!("CREATE DATABASE {name}"))
                .execute(&mut admin)
                .await?;
        }
    }
    admin.close().await?;
    Ok(is_present || create)
}

async fn has_database(admin: &mut PgConnection, name: &str) -> store::Result<bool> {
    store::statement(
        "database_exists",
        "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)",
    )
    .bind(name)
    .fetch_value(admin)
    .await
}
