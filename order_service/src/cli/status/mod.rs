//! `status`: processes, queue depths, lag of the ledger's duties, and errors, on one screen.

mod json;
mod show;

use std::time::Duration;

use clap::Args;
use futures::future::join_all;
use ledger::sharding::ShardDefinition;
use ledger::stats::ShardStats;
use ledger::types::LedgerTypeCatalogue;
use queue::{JobErrorSummary, QueueDepth, read_job_errors, read_queue_depths};
use settings::ResolvedSettings;
use tasks::{TaskFailureRow as TaskFailure, recent_task_failures};

use super::definition::{LEDGER_DATABASE_SETTING_NAMES, all_examples, first_example, setting_args};
use super::output::OutputArgs;
use super::{CommandFailure, output};
use order_service::serve::database::{self, ControlDatabase, DatabaseAccess};
use order_service::serve::ledger as shards;
use order_service::serve::processes::{self, ProcessRow};
use order_service::settings::DatabaseSettings;

/// Maximum error rows read from each source.
const MAX_COMPLAINTS: i64 = 20;

/// Connect timeout of a shard; an unreachable one must not delay the output.
const SHARD_CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

const EXAMPLES: &str = "order_service status";

/// Arguments of the command.
#[derive(Debug, Args)]
#[command(
    about = "Processes, queues, shards and errors at a glance",
    args = setting_args(&LEDGER_DATABASE_SETTING_NAMES),
    after_help = first_example(EXAMPLES),
    after_long_help = all_examples(EXAMPLES)
)]
#[group(skip)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    output: OutputArgs,
}

/// All data of the output.
struct PlatformStatus {
    processes: Vec<ProcessRow>,
    queues: Vec<QueueDepth>,
    shards: Vec<ShardStatusEntry>,
    complaints: Vec<JobErrorSummary>,
    task_failures: Vec<TaskFailure>,
}

/// Statistics of a shard, or why it is unavailable.
struct ShardStatusEntry {
    name: String,
    figures: Result<ShardStats, String>,
}

pub(super) async fn run_status_command(
    args: &StatusArgs,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let settings = DatabaseSettings::new(resolved)?;
    let database = database::open_control_database(&settings, DatabaseAccess::Existing).await?;
    let status = load_status(&settings, &database).await;
    database.close().await;
    let status = status?;
    if args.output.is_json() {
        output::print_json(json::status_json(&status));
    } else {
        show::print_status(&status);
    }
    Ok(())
}

async fn load_status(
    settings: &DatabaseSettings,
    database: &ControlDatabase,
) -> anyhow::Result<PlatformStatus> {
    let map = shards::load_shard_map(settings, database).await?;
    let pool = &database.pool;
    let types = ledger::types::load_types(pool).await?;
    let shard_settings = DatabaseSettings {
        startup_timeout: settings.startup_timeout.min(SHARD_CONNECT_TIMEOUT),
        ..settings.clone()
    };
    let shards = map
        .shards()
        .iter()
        .map(|definition| load_shard_status(&shard_settings, database, definition, &types));
    Ok(PlatformStatus {
        processes: processes::list_processes(pool).await?,
        queues: read_queue_depths(pool).await?,
        shards: join_all(shards).await,
        complaints: read_job_errors(pool, MAX_COMPLAINTS).await?,
        task_failures: recent_task_failures(pool, MAX_COMPLAINTS).await?,
    })
}

/// Loads one shard; a failure becomes part of the entry.
async fn load_shard_status(
    settings: &DatabaseSettings,
    database: &ControlDatabase,
    definition: &ShardDefinition,
    types: &LedgerTypeCatalogue,
) -> ShardStatusEntry {
    let figures = async {
        let shard = shards::open_existing_shard(settings, database, definition).await?;
        let shard = shard.ok_or_else(|| anyhow::anyhow!("there is nothing in its database yet"))?;
        let figures = ShardStats::load(&shard, types).await;
        store::close_pool(&shard.pool).await;
        Ok::<_, anyhow::Error>(figures?)
    };
    ShardStatusEntry {
        name: definition.name.clone(),
        figures: figures.await.map_err(|error| format!("{error:#}")),
    }
}
