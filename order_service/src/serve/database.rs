//! The control database: embedded, or somebody's Postgres; opened patiently and at the right schema version.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use store::embedded::{Embedded, USER};
use store::{Dedicated, Migrations, PoolSettings};
use tokio::time::timeout;

use super::connections;
use crate::settings::DatabaseSettings;

/// The name of the control database in an embedded cluster.
const CONTROL: &str = "control";

/// What whoever opens the databases may do with those of an embedded cluster. Other databases are only ever created and
/// migrated by people and by `migrate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Creates the cluster, its databases and their schemas where they are missing: for what serves and what writes.
    CreateMissing,
    /// Takes what is there, and creates and migrates nothing: for commands that look.
    Existing,
}

/// An open control database.
pub struct Database {
    /// Its connections, but for those that something holds to itself.
    pub pool: PgPool,
    /// The connection on which leases are renewed, and on which it is asked whether the database is there: nothing else
    /// waits for it.
    pub leases: PgPool,
    /// Keeps an embedded cluster running.
    pub embedded: Option<Arc<Embedded>>,
    /// How it was opened; shards beside it are opened in the same way.
    pub access: Access,
}

impl Database {
    /// Closes the connections, and those of pools beside this one.
    pub async fn close(&self) {
        store::close(&self.pool).await;
    }
}

/// Opens the control database, at this version's schema. With [`Access::CreateMissing`] an embedded one is created and migrated as
/// needed; a schema that does not fit is an error otherwise.
pub async fn open(settings: &DatabaseSettings, access: Access) -> anyhow::Result<Database> {
    let database = reach(settings, access).await?;
    let mut connection = migrating(&database.pool).await.context("control database")?;
    if database.embedded.is_some() && access == Access::CreateMissing {
        Migrations::control().apply(&mut connection).await?;
    } else {
        Migrations::control().check(&mut connection).await?;
    }
    drop(connection);
    Ok(database)
}

/// Opens the control database whatever its schema version.
pub async fn reach(settings: &DatabaseSettings, access: Access) -> anyhow::Result<Database> {
    let (options, embedded) = match &settings.url {
        Some(options) => (options.clone(), None),
        None => {
            let embedded = join(settings, access).await?;
            provide(&embedded, CONTROL, access, settings.startup_timeout).await?;
            (embedded.options(CONTROL), Some(embedded))
        }
    };
    let pool = PoolSettings {
        name: "control",
        max_connections: connections::control(settings.connections),
        patience: settings.startup_timeout,
        application_name: "order_service".to_owned(),
        session: Vec::new(),
    };
    let pool = store::connect(options, &pool).await?;
    if embedded.is_none() && access == Access::CreateMissing {
        store::wait_until_writable(&pool, settings.startup_timeout).await.context("control database")?;
    }
    let leases = store::lease_connection(&pool);
    Ok(Database { pool, leases, embedded, access })
}

/// A connection for migrations: they may take as long as they take.
pub async fn migrating(pool: &PgPool) -> store::Result<Dedicated> {
    Dedicated::take(pool, Duration::ZERO).await
}

async fn join(settings: &DatabaseSettings, access: Access) -> anyhow::Result<Arc<Embedded>> {
    let program = std::env::current_exe().context("finding this program's own file")?;
    let (data_dir, patience) = (settings.data_dir.path()?.to_owned(), settings.startup_timeout);
    let joined = store::panics::told_blocking(move || match access {
        Access::CreateMissing => Embedded::join(&data_dir, &program, patience),
        Access::Existing => Embedded::join_existing(&data_dir, &program, patience),
    });
    Ok(joined.await.context("starting the embedded PostgreSQL")??)
}

/// Makes sure that a database of the cluster is there.
pub(super) async fn provide(
    embedded: &Embedded,
    name: &str,
    access: Access,
    patience: Duration,
) -> anyhow::Result<()> {
    if is_there(embedded, name, access, patience).await? {
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
pub(super) async fn is_there(
    embedded: &Embedded,
    name: &str,
    access: Access,
    patience: Duration,
) -> anyhow::Result<bool> {
    let deadline = Instant::now() + patience;
    loop {
        let there = timeout(CREATE_TIMEOUT, is_there_now(embedded, name, access)).await;
        match there
            .unwrap_or_else(|_| Err(store::Error::Waited("for a database to be looked for or created")))
        {
            Err(error) if error.is_transient() && !error.is_disk_full() && Instant::now() < deadline => {
                tracing::info!(%error, name, "waiting for the embedded PostgreSQL");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            done => return done.with_context(|| format!("the database {name}")),
        }
    }
}

/// For one try: connecting, waiting for others that create one, copying the template.
const CREATE_TIMEOUT: Duration = Duration::from_secs(20);

async fn is_there_now(embedded: &Embedded, name: &str, access: Access) -> store::Result<bool> {
    let options = embedded.options("postgres").application_name("order_service");
    let mut admin = PgConnection::connect_with(&options).await?;
    let there = exists(&mut admin, name).await?;
    let create = access == Access::CreateMissing && !there;
    if create {
        // One copy of the template at a time: Postgres refuses a second one.
        sqlx::query("SELECT pg_advisory_lock(1) -- create_database").execute(&mut admin).await?;
        // Whoever had the lock may have been about the same database.
        if !exists(&mut admin, name).await? {
            tracing::info!(user = USER, data_dir = %embedded.data_dir().display(), name, "creating a database");
            sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut admin).await?;
        }
    }
    admin.close().await?;
    Ok(there || create)
}

async fn exists(admin: &mut PgConnection, name: &str) -> store::Result<bool> {
    let exists =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1) -- database_exists");
    Ok(exists.bind(name).fetch_one(admin).await?)
}
