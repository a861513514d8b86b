//! Readiness probe: whether this process can write.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use ledger::sharding::{LedgerShards, Shard};
use serving::ops::DependencyProbe;
use sqlx::PgPool;
use store::{LeaseManager, PgOperation, is_disk_full, read_only_reason};

use super::database::ControlDatabase;
use super::database_connection_limits::is_same_server;

/// Timeout of the control database's answer.
const CONTROL_PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout of a shard's answer. A silent shard does not make the process unready, and some probers
/// give up after one second.
const SHARD_PROBE_TIMEOUT: Duration = Duration::from_millis(500);
/// Minimum free disk space of an embedded cluster, in bytes: Postgres needs room for the next WAL
/// segment, 16 MiB.
const MIN_FREE_DISK_BYTES: u64 = 16 << 20;

/// Ready means: the control database answers, no database is read-only, and this process renewed
/// its leases in time. A shard that does not answer is no reason: the other shards work.
pub(super) fn build_readiness_probe(
    database: &ControlDatabase,
    leases: LeaseManager,
    shards: LedgerShards,
) -> DependencyProbe {
    let pool = database.leases.clone();
    // Shards in the control database need no probe of their own.
    let elsewhere = shards.all().iter().filter(|shard| !is_same_database(&shard.pool, &pool));
    let shards = elsewhere.cloned().collect();
    let data_dir = database.embedded.as_ref().map(|embedded| embedded.data_dir().to_owned());
    let ready = Arc::new(ReadinessProbe { pool, leases, shards, data_dir });
    Arc::new(move || {
        let ready = ready.clone();
        Box::pin(async move { ready.check_readiness().await })
    })
}

struct ReadinessProbe {
    pool: PgPool,
    leases: LeaseManager,
    shards: Vec<Shard>,
    data_dir: Option<PathBuf>,
}

impl ReadinessProbe {
    async fn check_readiness(&self) -> Result<(), String> {
        if let Some(data_dir) = &self.data_dir
            && let Ok(disk) = nix::sys::statvfs::statvfs(data_dir)
            && disk.blocks_available().saturating_mul(disk.fragment_size()) < MIN_FREE_DISK_BYTES
        {
            return Err(format!("the disk of {} is full", data_dir.display()));
        }
        if is_disk_full() {
            return Err("the disk of a database is full".to_owned());
        }
        let shards =
            self.shards.iter().map(|shard| probe_database(&shard.pool, SHARD_PROBE_TIMEOUT));
        let (control, shards) =
            tokio::join!(probe_database(&self.pool, CONTROL_PROBE_TIMEOUT), join_all(shards));
        match control {
            Ok(None) => {}
            Ok(Some(reason)) => return Err(format!("the control database {reason}")),
            Err(_) => return Err("the database does not answer".to_owned()),
        }
        for (shard, looked) in self.shards.iter().zip(shards) {
            if let Ok(Some(reason)) = looked {
                return Err(format!("the database of shard {} {reason}", shard.name));
            }
        }
        // Checked last: the reasons above would be the cause of a missed renewal.
        self.leases.check_last_renewal()
    }
}

fn is_same_database(one: &PgPool, other: &PgPool) -> bool {
    let (one, other) = (one.connect_options(), other.connect_options());
    is_same_server(&one, &other) && one.get_database() == other.get_database()
}

async fn probe_database(pool: &PgPool, within: Duration) -> store::Result<Option<&'static str>> {
    let ready = PgOperation::named("ready").with_timeout(within);
    let query =
        store::run_statement(pool, ready, |connection| Box::pin(read_only_reason(connection)));
    let result = tokio::time::timeout(within, query).await;
    result.unwrap_or(Err(store::Error::WaitTimeout("the database does not answer")))
}
