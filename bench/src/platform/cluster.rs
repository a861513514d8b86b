//! An embedded Postgres cluster for limits, with the same settings as that of the services.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use store::MigrationSet;
use store::embedded::{EmbeddedServer, EmbeddedServerOptions};
use tempfile::TempDir;

use super::database::Database;
use crate::suite::Session;

/// A new cluster; stopped and removed on drop.
pub struct Cluster {
    server: EmbeddedServer,
    folder: TempDir,
}

impl Cluster {
    /// Starts a cluster. It ends with the calling thread, which must therefore live as
    /// long as the program.
    pub fn start(session: &Session) -> anyhow::Result<Self> {
        let folder = session.folder("cluster")?;
        let deadline = Instant::now() + Duration::from_secs(60);
        let server =
            EmbeddedServer::start(folder.path(), EmbeddedServerOptions::default(), deadline)?;
        Ok(Self { server, folder })
    }

    /// The data directory of the cluster.
    pub fn data_dir(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// A connection for measurements.
    pub async fn database(&self) -> anyhow::Result<Database> {
        Database::connect(self.data_dir()).await
    }

    /// Creates a database, and applies the migrations if given.
    pub async fn create(&self, name: &str, migrations: Option<MigrationSet>) -> anyhow::Result<()> {
        let mut admin = PgConnection::connect_with(&self.options("postgres")).await?;
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE \"{name}\"")))
            .execute(&mut admin)
            .await?;
        if let Some(migrations) = migrations {
            let mut connection = PgConnection::connect_with(&self.options(name)).await?;
            migrations.apply_pending(&mut connection).await.context("migrations")?;
            connection.close().await?;
        }
        Ok(admin.close().await?)
    }

    /// A connection pool to one of the databases.
    pub async fn pool(&self, name: &str, connections: u32) -> anyhow::Result<PgPool> {
        pool(self.options(name), connections).await
    }

    fn options(&self, name: &str) -> PgConnectOptions {
        super::database::options(self.data_dir(), name)
    }
}

/// Opens a pool with all connections established, so that connecting is not measured.
pub async fn pool(options: PgConnectOptions, connections: u32) -> anyhow::Result<PgPool> {
    let pool = PgPoolOptions::new()
        .max_connections(connections)
        .min_connections(connections)
        .test_before_acquire(false)
        .connect_with(options);
    pool.await.context("connecting to a cluster of our own")
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.server.stop();
    }
}
