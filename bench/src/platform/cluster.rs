//! A Postgres server of this program's own, for limits: started as the services start theirs, with the same settings.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use store::MigrationSet;
use store::embedded::{EmbeddedServer, EmbeddedServerOptions};
use tempfile::TempDir;

use super::database::Database;
use crate::suite::Session;

/// A fresh cluster. Dropped, it is stopped and removed.
pub struct Cluster {
    server: EmbeddedServer,
    folder: TempDir,
}

impl Cluster {
    /// Starts one. The server ends with the thread that calls this, so that must be one that lives as long as the program.
    pub fn start(session: &Session) -> anyhow::Result<Self> {
        let folder = session.folder("cluster")?;
        let deadline = Instant::now() + Duration::from_secs(60);
        let server =
            EmbeddedServer::start(folder.path(), EmbeddedServerOptions::default(), deadline)?;
        Ok(Self { server, folder })
    }

    /// Where its data is.
    pub fn data_dir(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// A connection for figures.
    pub async fn database(&self) -> anyhow::Result<Database> {
        Database::connect(self.data_dir()).await
    }

    /// Makes a database with a schema (or none).
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

    /// A pool on one of its databases.
    pub async fn pool(&self, name: &str, connections: u32) -> anyhow::Result<PgPool> {
        pool(self.options(name), connections).await
    }

    fn options(&self, name: &str) -> PgConnectOptions {
        super::database::options(self.data_dir(), name)
    }
}

/// A pool whose connections are all there before anything is measured.
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
