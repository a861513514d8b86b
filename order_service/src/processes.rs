//! The processes that serve, as they tell of themselves in the control database: for people to see, nothing is decided by it.
//!
//! Cost: one statement every [`HEARTBEAT_INTERVAL`] for a process, which changes one row in place (HOT).

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use store::Result;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::settings::ProcessRole;

/// Time between two signs of life.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);

/// A process that was not heard of for so long is not shown as living; three signs of life may be missed.
pub const SILENT_TIMEOUT: Duration = Duration::from_secs(20);

/// A process that was not heard of for so long is forgotten by the next sign of life of another.
const FORGET_TIMEOUT: Duration = Duration::from_secs(600);

/// Most processes that are shown.
const MAX_LISTED_PROCESSES: i64 = 1000;

/// What a process says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessDescription {
    /// The machine's name.
    pub host: String,
    /// The process id on that machine.
    pub pid: i32,
    /// The program's version.
    pub version: String,
    /// What it does, by the names of `--roles`.
    pub roles: Vec<String>,
}

impl ProcessDescription {
    /// This process, with these roles.
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

/// A process as it is known in the database.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct ProcessRow {
    /// Which.
    pub process_id: Uuid,
    /// The machine's name.
    pub host: String,
    /// The process id on that machine.
    pub pid: i32,
    /// The program's version.
    pub version: String,
    /// What it does, by the names of `--roles`.
    pub roles: Vec<String>,
    /// When it told of itself first.
    pub started_at: DateTime<Utc>,
    /// How long that is ago by the database's clock, in seconds.
    pub up_seconds: f64,
    /// How long ago it last told of itself, in seconds.
    pub seen_seconds_ago: f64,
}

impl ProcessRow {
    /// Whether it told of itself a short while ago.
    pub fn is_alive(&self) -> bool {
        self.seen_seconds_ago < SILENT_TIMEOUT.as_secs_f64()
    }
}

/// Tells of this process until `stop`, and then that it is gone. A database that does not answer is told later: nobody waits
/// for this.
pub async fn run_heartbeat(pool: PgPool, process: ProcessDescription, stop: CancellationToken) {
    let process_id = Uuid::new_v4();
    let mut tick = interval(HEARTBEAT_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = tick.tick() => {}
        }
        // Between two statements it may end at once.
        if let Err(error) = refresh_process(&pool, process_id, &process).await {
            tracing::warn!(%error, code = "UNAVAILABLE", "heartbeat");
        }
    }
    let _ = timeout(Duration::from_secs(1), forget_process(&pool, process_id)).await;
}

/// A sign of life.
pub async fn refresh_process(
    pool: &PgPool,
    process_id: Uuid,
    process: &ProcessDescription,
) -> Result<()> {
    let process = process.clone();
    store::run_statement(pool, "refresh_process", move |connection| {
        let ProcessDescription { host, pid, version, roles } = process.clone();
        Box::pin(async move {
            let refreshed = sqlx::query(REFRESH_PROCESS_SQL)
                .bind(process_id)
                .bind(host)
                .bind(pid)
                .bind(version)
                .bind(roles);
            refreshed.bind(FORGET_TIMEOUT.as_secs_f64()).execute(connection).await?;
            Ok(())
        })
    })
    .await
}

async fn forget_process(pool: &PgPool, process_id: Uuid) -> Result<()> {
    store::run_statement(pool, "forget_process", move |connection| {
        Box::pin(async move {
            let forgotten =
                sqlx::query("DELETE FROM processes WHERE process_id = $1 -- forget_process");
            forgotten.bind(process_id).execute(connection).await?;
            Ok(())
        })
    })
    .await
}

/// The processes that are known, the longest-living first.
pub async fn list_processes(pool: &PgPool) -> Result<Vec<ProcessRow>> {
    store::run_statement(pool, "list_processes", |connection| {
        Box::pin(async move {
            Ok(sqlx::query_as(LIST_PROCESSES_SQL)
                .bind(MAX_LISTED_PROCESSES)
                .fetch_all(connection)
                .await?)
        })
    })
    .await
}

const REFRESH_PROCESS_SQL: &str = "-- refresh_process
WITH silent AS (
    SELECT process_id FROM processes
    WHERE seen_at < now() - make_interval(secs => $6) AND process_id <> $1 FOR UPDATE SKIP LOCKED
), forgotten AS (
    DELETE FROM processes p USING silent s WHERE p.process_id = s.process_id
)
INSERT INTO processes (process_id, host, pid, version, roles) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (process_id) DO UPDATE SET seen_at = now()";

const LIST_PROCESSES_SQL: &str = "-- list_processes
SELECT process_id, host, pid, version, roles, started_at,
       extract(epoch FROM now() - started_at)::float8 AS up_seconds,
       extract(epoch FROM now() - seen_at)::float8 AS seen_seconds_ago
FROM processes ORDER BY started_at, process_id LIMIT $1";
