//! `status`: who serves, what waits, how far behind the ledger's duties are, and what goes wrong, on one screen.

mod json;
mod show;

use std::time::Duration;

use clap::ArgMatches;
use futures::future::join_all;
use ledger::figures::Figures;
use ledger::sharding::ShardPlace;
use ledger::types::Catalogue;
use queue::{Complaint, Depth, complaints, depths};
use settings::Resolved;
use tasks::{Failure as TaskFailure, recent_failures};

use super::{Failure, output};
use crate::processes::{self, Process};
use crate::serve::database::{self, Access, Database};
use crate::serve::ledger as shards;
use crate::settings::DatabaseSettings;

/// Complaints of each kind that are read.
const MAX_COMPLAINTS: i64 = 20;

/// How long a shard is waited for that cannot be reached: the others are to be seen soon.
const SHARD_PATIENCE: Duration = Duration::from_secs(3);

/// Everything that is shown.
struct Status {
    processes: Vec<Process>,
    queues: Vec<Depth>,
    shards: Vec<ShardStatus>,
    complaints: Vec<Complaint>,
    task_failures: Vec<TaskFailure>,
}

/// A shard, or why it cannot be looked at.
struct ShardStatus {
    name: String,
    figures: Result<Figures, String>,
}

pub(super) async fn run(args: &ArgMatches, resolved: &Resolved) -> Result<(), Failure> {
    let settings = DatabaseSettings::new(resolved)?;
    let database = database::open(&settings, Access::Existing).await?;
    let status = load(&settings, &database).await;
    database.close().await;
    let status = status?;
    if output::is_json(args) {
        output::json(json::of(&status));
    } else {
        show::show(&status);
    }
    Ok(())
}

async fn load(settings: &DatabaseSettings, database: &Database) -> anyhow::Result<Status> {
    let map = shards::shard_map(settings, database).await?;
    let pool = &database.pool;
    let types = ledger::types::load(pool).await?;
    let impatient = DatabaseSettings {
        startup_timeout: settings.startup_timeout.min(SHARD_PATIENCE),
        ..settings.clone()
    };
    let shards = map.shards().iter().map(|place| shard_status(&impatient, database, place, &types));
    Ok(Status {
        processes: processes::list(pool).await?,
        queues: depths(pool).await?,
        shards: join_all(shards).await,
        complaints: complaints(pool, MAX_COMPLAINTS).await?,
        task_failures: recent_failures(pool, MAX_COMPLAINTS).await?,
    })
}

/// One shard; one that is away hides none of the others.
async fn shard_status(
    settings: &DatabaseSettings,
    database: &Database,
    place: &ShardPlace,
    types: &Catalogue,
) -> ShardStatus {
    let figures = async {
        let shard = shards::look_at(settings, database, place).await?;
        let shard = shard.ok_or_else(|| anyhow::anyhow!("there is nothing in its database yet"))?;
        let figures = Figures::load(&shard, types).await;
        store::close(&shard.pool).await;
        Ok::<_, anyhow::Error>(figures?)
    };
    ShardStatus { name: place.name.clone(), figures: figures.await.map_err(|error| format!("{error:#}")) }
}
