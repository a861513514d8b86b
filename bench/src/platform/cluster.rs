//! An embedded Postgres cluster for limits, with the same settings as that of the services.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use store::MigrationSet;
use store::embedded::{EmbeddedServer, EmbeddedServerOptions};
use tempfile::TempDir;

use super::database::PgStatsConnection;
use crate::suite::BenchSession;

/// A new cluster; stopped and removed on drop.
pub struct BenchCluster {
    server: EmbeddedServer,
    folder: TempDir,
}

impl BenchCluster {
    /// Starts a cluster. It ends with the calling thread, which must therefore live as
    /// long as the program.
    pub fn start(session: &BenchSession) -> anyhow::Result<Self> {
        let folder = session.create_folder("cluster")?;
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
    pub async fn connect_stats(&self) -> anyhow::Result<PgStatsConnection> {
        PgStatsConnection::connect(self.data_dir()).await
    }

    /// Creates a database, and applies the migrations if given.
    pub async fn create_database(
        &self,
        name: &str,
        migrations: Option<MigrationSet>,
    ) -> anyhow::Result<()> {
        let mut admin = PgConnection::connect_with(&self.connect_options("postgres")).await?;
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE \"{name}\"")))
            .execute(&mut admin)
            .await?;
        if let Some(migrations) = migrations {
            let mut connection = PgConnection::connect_with(&self.connect_options(name)).await?;
            migrations.apply_pending(&mut connection).await.context("migrations")?;
            connection.close().await?;
        }
        Ok(admin.close().await?)
    }

    /// A connection pool to one of the databases.
    pub async fn open_pool(&self, name: &str, connections: u32) -> anyhow::Result<PgPool> {
        open_pool(self.connect_options(name), connections).await
    }

    fn connect_options(&self, name: &str) -> PgConnectOptions {
        super::database::connect_options(self.data_dir(), name)
    }
}

/// Opens a pool with all connections established, so that connecting is not measured.
pub async fn open_pool(options: PgConnectOptions, connections: u32) -> anyhow::Result<PgPool> {
    let connecting = PgPoolOptions::new()
        .max_connections(connections)
        .min_connections(connections)
        .test_before_acquire(false)
        .connect_with(options);
    connecting.await.context("connecting to a cluster of our own")
}

impl Drop for BenchCluster {
    fn drop(&mut self) {
        self.server.stop();
    }
}
