//! Measurements of an embedded Postgres server.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use store::embedded::CLUSTER_USER;

/// A connection to the server of a data directory.
pub struct PgStatsConnection {
    connection: PgConnection,
    postmaster_pid: u32,
}

/// Server version and durability settings.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct ServerSettings {
    /// `server_version`
    pub version: String,
    /// `fsync`
    pub fsync: String,
    /// `synchronous_commit`
    pub synchronous_commit: String,
    /// `full_page_writes`
    pub full_page_writes: String,
}

/// Connection options for a database of the server in `data_dir`.
pub fn connect_options(data_dir: &Path, database: &str) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(data_dir.join("postgres"))
        .port(5432)
        .username(CLUSTER_USER)
        .database(database)
        .application_name("bench")
}

impl PgStatsConnection {
    /// Connects to the server in `data_dir`.
    pub async fn connect(data_dir: &Path) -> anyhow::Result<Self> {
        let connection = PgConnection::connect_with(&connect_options(data_dir, "postgres")).await;
        let connection = connection.context("connecting to the embedded server")?;
        let postmaster_pid =
            read_postmaster_pid(data_dir).context("the embedded server has no process id")?;
        Ok(Self { connection, postmaster_pid })
    }

    /// Process id of the postmaster.
    pub fn postmaster_pid(&self) -> u32 {
        self.postmaster_pid
    }

    /// Bytes of WAL written since the cluster was created.
    pub async fn wal_bytes(&mut self) -> anyhow::Result<f64> {
        self.query_number("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8")
            .await
    }

    /// Total size in bytes of the databases with this name prefix.
    pub async fn database_bytes(&mut self, prefix: &str) -> anyhow::Result<f64> {
        let bytes = sqlx::query_scalar(
            "SELECT coalesce(sum(pg_database_size(oid)), 0)::float8 FROM pg_database WHERE starts_with(datname, $1)",
        );
        Ok(bytes.bind(prefix).fetch_one(&mut self.connection).await?)
    }

    /// Forces a checkpoint, so that a measurement does not pay for earlier dirty pages.
    pub async fn checkpoint(&mut self) -> anyhow::Result<()> {
        sqlx::query("CHECKPOINT").execute(&mut self.connection).await?;
        Ok(())
    }

    /// Reads version and durability settings.
    pub async fn read_settings(&mut self) -> anyhow::Result<ServerSettings> {
        let (version, fsync, synchronous_commit, full_page_writes) = sqlx::query_as(
            "SELECT current_setting('server_version'), current_setting('fsync'),
                    current_setting('synchronous_commit'), current_setting('full_page_writes')",
        )
        .fetch_one(&mut self.connection)
        .await?;
        Ok(ServerSettings { version, fsync, synchronous_commit, full_page_writes })
    }

    async fn query_number(&mut self, query: &'static str) -> anyhow::Result<f64> {
        Ok(sqlx::query_scalar(query).fetch_one(&mut self.connection).await?)
    }
}

fn read_postmaster_pid(data_dir: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(data_dir.join("postgres/postmaster.pid")).ok()?;
    text.lines().next()?.trim().parse().ok()
}

/// Waits, at most 30 s, until the server of a data directory has ended; it stops itself
/// after its last user.
pub fn wait_until_stopped(data_dir: &Path) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let is_running = || {
        read_postmaster_pid(data_dir).is_some_and(|pid| Path::new(&format!("/proc/{pid}")).exists())
    };
    while is_running() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
}
