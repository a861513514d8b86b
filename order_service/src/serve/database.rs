//! The control database: embedded, or somebody's Postgres; opened patiently and at the right schema version.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use store::embedded::{CLUSTER_USER, EmbeddedCluster};
use store::{DedicatedConnection, MigrationSet, PoolSettings};
use tokio::time::timeout;

use super::connections;
use crate::settings::DatabaseSettings;

/// The name of the control database in an embedded cluster.
const CONTROL_DATABASE_NAME: &str = "control";

/// What whoever opens the databases may do with those of an embedded cluster. Other databases are only ever created and
/// migrated by people and by `migrate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseAccess {
    /// Creates the cluster, its databases and their schemas where they are missing: for what serves and what writes.
    CreateMissing,
    /// Takes what is there, and creates and migrates nothing: for commands that look.
    Existing,
}

/// An open control database.
pub struct ControlDatabase {
    /// Its connections, but for those that something holds to itself.
    pub pool: PgPool,
    /// The connection on which leases are renewed, and on which it is asked whether the database is there: nothing else
    /// waits for it.
    pub leases: PgPool,
    /// Keeps an embedded cluster running.
    pub embedded: Option<Arc<EmbeddedCluster>>,
    /// How it was opened; shards beside it are opened in the same way.
    pub access: DatabaseAccess,
}

impl ControlDatabase {
    /// Closes the connections, and those of pools beside this one.
    pub async fn close(&self) {
        store::close_pool(&self.pool).await;
    }
}

/// Opens the control database, at this version's schema. With [`DatabaseAccess::CreateMissing`] an embedded one is created and migrated as
/// needed; a schema that does not fit is an error otherwise.
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

/// Opens the control database whatever its schema version.
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
        max_connections: connections::control_pool_size(settings.connections),
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
    Ok(ControlDatabase { pool, leases, embedded, access })
}

/// A connection for migrations: they may take as long as they take.
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

/// Makes sure that a database of the cluster is there.
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

/// Whether a database of the cluster is there; unless only existing ones are wanted, it is created if it is not. Two
/// services may start at once: whoever comes second finds it. A server whose first process was just killed still takes
/// connections for a moment; another one follows.
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

/// For one try: connecting, waiting for others that create one, copying the template.
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
        // One copy of the template at a time: Postgres refuses a second one.
        sqlx::query("SELECT pg_advisory_lock(1) -- create_database").execute(&mut admin).await?;
        // Whoever had the lock may have been about the same database.
        if !has_database(&mut admin, name).await? {
            tracing::info!(user = CLUSTER_USER, data_dir = %embedded.data_dir().display(), name, "creating a database");
            sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}")))
                .execute(&mut admin)
                .await?;
        }
    }
    admin.close().await?;
    Ok(is_present || create)
}

async fn has_database(admin: &mut PgConnection, name: &str) -> store::Result<bool> {
    let exists = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1) -- database_exists",
    );
    Ok(exists.bind(name).fetch_one(admin).await?)
}
