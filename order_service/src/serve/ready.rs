//! Readiness: that this process can do its work, which is to write.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use ledger::sharding::{Shard, Shards};
use serving::ops::Probe;
use sqlx::PgPool;
use store::{Leases, Operation, PgConnectOptions, is_disk_full, why_read_only};

use super::database::Database;

/// For the control database's answer.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(2);
/// A shard that does not answer is no reason, so whoever probes does not wait for it: some give up after a second.
const SHARD_TIMEOUT: Duration = Duration::from_millis(500);
/// Less room on the disk of an embedded cluster, in bytes, and it cannot make the next file of its log.
const LEAST_ROOM: u64 = 16 << 20;

/// Ready means that the control database answers, that all databases take what is written, and that what this process lives
/// on was written in time. A shard that does not answer is no reason: the others go on.
pub(super) fn probe(database: &Database, leases: Leases, shards: Shards) -> Probe {
    let pool = database.leases.clone();
    // Those in the control database are asked with it.
    let elsewhere = shards.all().iter().filter(|shard| !is_same_database(&shard.pool, &pool));
    let shards = elsewhere.cloned().collect();
    let data_dir = database.embedded.as_ref().map(|embedded| embedded.data_dir().to_owned());
    let ready = Arc::new(Ready { pool, leases, shards, data_dir });
    Arc::new(move || {
        let ready = ready.clone();
        Box::pin(async move { ready.ask().await })
    })
}

struct Ready {
    pool: PgPool,
    leases: Leases,
    shards: Vec<Shard>,
    data_dir: Option<PathBuf>,
}

impl Ready {
    async fn ask(&self) -> Result<(), String> {
        if let Some(data_dir) = &self.data_dir
            && let Ok(disk) = nix::sys::statvfs::statvfs(data_dir)
            && disk.blocks_available().saturating_mul(disk.fragment_size()) < LEAST_ROOM
        {
            return Err(format!("the disk of {} is full", data_dir.display()));
        }
        if is_disk_full() {
            return Err("the disk of a database is full".to_owned());
        }
        let shards = self.shards.iter().map(|shard| look(&shard.pool, SHARD_TIMEOUT));
        let (control, shards) = tokio::join!(look(&self.pool, CONTROL_TIMEOUT), join_all(shards));
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
        // After the reasons that would be the cause of it.
        self.leases.check_renewed()
    }
}

fn is_same_database(one: &PgPool, other: &PgPool) -> bool {
    let (one, other) = (one.connect_options(), other.connect_options());
    let place = |options: &PgConnectOptions| {
        let database = options.get_database().map(str::to_owned);
        (options.get_host().to_owned(), options.get_port(), options.get_socket().cloned(), database)
    };
    place(&one) == place(&other)
}

async fn look(pool: &PgPool, within: Duration) -> store::Result<Option<&'static str>> {
    let ready = Operation::named("ready").within(within);
    let looking = store::run(pool, ready, |connection| Box::pin(why_read_only(connection)));
    let looked = tokio::time::timeout(within, looking).await;
    looked.unwrap_or(Err(store::Error::Waited("the database does not answer")))
}
