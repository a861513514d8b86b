//! Heartbeats of the serving processes in the table `processes`; informational, nothing depends on
//! it.
//!
//! - Cost: per process one statement per [`HEARTBEAT_INTERVAL`], a HOT update of one row.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use store::Result;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::settings::ProcessRole;

/// Time between two heartbeats.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);

/// A process without a heartbeat for this long is shown as dead; three heartbeats may be missed.
pub const SILENT_TIMEOUT: Duration = Duration::from_secs(20);

/// The row of a process without a heartbeat for this long is deleted
/// by another process's heartbeat.
const FORGET_TIMEOUT: Duration = Duration::from_secs(600);

/// Maximum number of processes listed.
const MAX_LISTED_PROCESSES: i64 = 1000;

/// Description of a process, written with its heartbeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessDescription {
    /// Host name, from the kernel.
    pub host: String,
    /// Process id on that host.
    pub pid: i32,
    /// Version of the program.
    pub version: String,
    /// Roles, by the names of `--roles`.
    pub roles: Vec<String>,
}

impl ProcessDescription {
    /// Describes this process with `roles`.
    pub fn of_this_process(roles: &[ProcessRole]) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
        Self {
            host: host.map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned()),
            pid: std::process::id().cast_signed(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            roles: roles.iter().map(|role| role.name().to_owned()).collect(),
        }
    }
}

/// A row of `processes`.
#[derive(Debug, Clone, PartialEq, store::FromRow)]
pub struct ProcessRow {
    /// Random id, new for every start.
    pub process_id: Uuid,
    /// Host name, from the kernel.
    pub host: String,
    /// Process id on that host.
    pub pid: i32,
    /// Version of the program.
    pub version: String,
    /// Roles, by the names of `--roles`.
    pub roles: Vec<String>,
    /// Time of the first heartbeat.
    pub started_at: DateTime<Utc>,
    /// Age of `started_at` by the database's clock, in seconds.
    pub up_seconds: f64,
    /// Age of the last heartbeat, in seconds.
    pub seen_seconds_ago: f64,
}

impl ProcessRow {
    /// Whether the last heartbeat is younger than [`SILENT_TIMEOUT`].
    pub fn is_alive(&self) -> bool {
        self.seen_seconds_ago < SILENT_TIMEOUT.as_secs_f64()
    }
}

/// Sends heartbeats until `stop`, then deletes the row. A failed heartbeat is retried with the next
/// tick; nothing waits for it.
pub async fn run_heartbeat(pool: PgPool, process: ProcessDescription, stop: CancellationToken) {
    let process_id = Uuid::new_v4();
    let mut tick = interval(HEARTBEAT_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = tick.tick() => {}
        }
        // `stop` is checked between statements, never within one.
        if let Err(error) = refresh_process(&pool, process_id, &process).await {
            tracing::warn!(%error, code = "UNAVAILABLE", "heartbeat");
        }
    }
    let _ = timeout(Duration::from_secs(1), forget_process(&pool, process_id)).await;
}

/// Writes a heartbeat and deletes silent rows.
pub async fn refresh_process(
    pool: &PgPool,
    process_id: Uuid,
    process: &ProcessDescription,
) -> Result<()> {
    store::statement("refresh_process", REFRESH_PROCESS_SQL)
        .bind(process_id)
        .bind(&process.host)
        .bind(process.pid)
        .bind(&process.version)
        .bind(&process.roles)
        .bind(FORGET_TIMEOUT.as_secs_f64())
        .execute(pool)
        .await?;
    Ok(())
}

async fn forget_process(pool: &PgPool, process_id: Uuid) -> Result<()> {
    store::statement("forget_process", "DELETE FROM processes WHERE process_id = $1")
        .bind(process_id)
        .execute(pool)
        .await?;
    Ok(())
}

/// Known processes, oldest start first.
pub async fn list_processes(pool: &PgPool) -> Result<Vec<ProcessRow>> {
    store::statement("list_processes", LIST_PROCESSES_SQL)
        .bind(MAX_LISTED_PROCESSES)
        .fetch_all(pool)
        .await
}

const REFRESH_PROCESS_SQL: &str = "WITH silent AS (
    SELECT process_id FROM processes
    WHERE seen_at < now() - make_interval(secs => $6) AND process_id <> $1 FOR UPDATE SKIP LOCKED
), forgotten AS (
    DELETE FROM processes p USING silent s WHERE p.process_id = s.process_id
)
INSERT INTO processes (process_id, host, pid, version, roles) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (process_id) DO UPDATE SET seen_at = now()";

const LIST_PROCESSES_SQL: &str = "SELECT process_id, host, pid, version, roles, started_at,
       extract(epoch FROM now() - started_at)::float8 AS up_seconds,
       extract(epoch FROM now() - seen_at)::float8 AS seen_seconds_ago
FROM processes ORDER BY started_at, process_id LIMIT $1";
