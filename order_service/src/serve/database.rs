//! The control database: embedded, or somebody's Postgres; opened patiently and at the right schema version.

use std::sync::Arc;

use anyhow::Context as _;
use sqlx::{Connection as _, PgConnection, PgPool};
use store::embedded::{Embedded, USER};
use store::{Migrations, PoolSettings};

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
            create_database(&embedded).await?;
            (embedded.options(CONTROL), Some(embedded))
        }
    };
    let pool = PoolSettings {
        max_connections: settings.connections,
        patience: settings.startup_timeout,
        application_name: "order_service".to_owned(),
    };
    // Backstops: no statement of this program comes near them.
    let options =
        options.options([("statement_timeout", "60000"), ("idle_in_transaction_session_timeout", "60000")]);
    let pool = store::connect(options, &pool).await?;
    Ok(Database { pool, embedded })
}

async fn join(settings: &DatabaseSettings) -> anyhow::Result<Arc<Embedded>> {
    let program = std::env::current_exe().context("finding this program's own file")?;
    let (data_dir, patience) = (settings.data_dir.clone(), settings.startup_timeout);
    let joined = tokio::task::spawn_blocking(move || Embedded::join(&data_dir, &program, patience)).await;
    Ok(joined.context("starting the embedded PostgreSQL")??)
}

/// Two services may start at once: whoever comes second finds it there.
async fn create_database(embedded: &Embedded) -> anyhow::Result<()> {
    let mut admin = PgConnection::connect_with(&embedded.options("postgres")).await?;
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
        .bind(CONTROL)
        .fetch_one(&mut admin)
        .await?;
    if !exists {
        tracing::info!(user = USER, data_dir = %embedded.data_dir().display(), "creating the control database");
        let created = sqlx::query("CREATE DATABASE control").execute(&mut admin).await;
        let known = |error: &sqlx::Error| {
            // duplicate_database, or unique_violation when both create at the very same time
            error
                .as_database_error()
                .and_then(|e| e.code())
                .is_some_and(|code| code == "42P04" || code == "23505")
        };
        if let Err(error) = created
            && !known(&error)
        {
            return Err(error).context("creating the control database");
        }
    }
    admin.close().await?;
    Ok(())
}
