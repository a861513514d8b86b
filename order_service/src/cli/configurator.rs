//! Command `configurator forecast`, and the queue engine of an environment.

use clap::ArgMatches;
use configurator::check::IntegrationCheckEngine;
use configurator::template::Env;
use configurator::{RunRequest, http};
use queue::fifo::{FIFO_CHANNEL, PgFifo};
use serde_json::{Map, Value};
use settings::ResolvedSettings;
use store::PgNotificationHub;

use super::{CommandFailure, output};
use crate::serve::database::{self, ControlDatabase, DatabaseAccess};
use crate::serve::{configurator as room, queues};
use crate::settings::{DatabaseSettings, QueueEngine, QueueSettings};

pub(super) fn parse_env_arg(args: &ArgMatches) -> Result<Env, CommandFailure> {
    let env = args.get_one::<String>("env").map(String::as_str).unwrap_or_default();
    env.parse().map_err(|reason| CommandFailure::Usage(format!("--env: {reason}")))
}

fn parse_inputs_arg(args: &ArgMatches, name: &str) -> Result<Map<String, Value>, CommandFailure> {
    let text = args.get_one::<String>(name).map(String::as_str).unwrap_or("{}");
    serde_json::from_str(text)
        .map_err(|error| CommandFailure::Usage(format!("--{name}: not a JSON object: {error}")))
}

pub(super) async fn run_forecast_command(
    args: &ArgMatches,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let run_request = RunRequest {
        template_name: args.get_one::<String>("template-name").cloned().unwrap_or_default(),
        template: match args.get_one::<String>("template") {
            Some(file) => {
                let read = std::fs::read_to_string(file);
                Some(read.map_err(|error| {
                    CommandFailure::Failed(format!("--template {file}: {error}"))
                })?)
            }
            None => None,
        },
        env: parse_env_arg(args)?,
        general_inputs: parse_inputs_arg(args, "general-inputs")?,
        env_inputs: parse_inputs_arg(args, "env-inputs")?,
    };
    let settings = QueueSettings::new(resolved)?;
    let database = database::open_control_database(
        &DatabaseSettings::new(resolved)?,
        DatabaseAccess::Existing,
    )
    .await?;
    let (notifications, _) = PgNotificationHub::start(database.pool.clone(), Vec::new());
    let fifo =
        queues::open_fifo_queues(&QueueEngine::Postgres, &database.pool, &notifications).await;
    let configurator = room::build_configurator(&settings, &database.pool, &notifications, &fifo);
    let forecast = configurator.forecast_run(run_request).await;
    database.close().await;
    let forecast = forecast
        .map_err(|refused| CommandFailure::Failed(http::to_api_error(refused).to_string()))?;
    if output::is_json_output(args) {
        output::print_json(http::forecast_json(&forecast));
        return Ok(());
    }
    let rows = forecast.into_iter().map(|block| {
        let action = block.action.map_or("cached", configurator::protocol::BlockAction::name);
        let remark = if block.may_be_cached { "unless its inputs turn out unchanged" } else { "" };
        [block.name, block.integration, action.to_owned(), remark.to_owned()]
    });
    output::print_table(["block", "integration", "action", ""], rows);
    Ok(())
}

/// Queue engine of an environment. SQS needs no database.
pub(super) async fn open_queue_place(
    engine: &QueueEngine,
    env: Env,
    resolved: &ResolvedSettings,
    access: DatabaseAccess,
) -> Result<(IntegrationCheckEngine, Option<ControlDatabase>), CommandFailure> {
    match engine {
        QueueEngine::Sqs(accounts) => {
            let account = accounts.envs.get(&env);
            let account = account.ok_or_else(|| {
                CommandFailure::Failed(format!("--queues says nothing of the environment {env}"))
            })?;
            Ok((IntegrationCheckEngine::Sqs(accounts.open(account).await), None))
        }
        QueueEngine::Postgres => {
            let database =
                database::open_control_database(&DatabaseSettings::new(resolved)?, access).await?;
            let (notifications, _) =
                PgNotificationHub::start(database.pool.clone(), vec![FIFO_CHANNEL]);
            let engine = PgFifo::new(database.pool.clone(), notifications);
            Ok((IntegrationCheckEngine::Postgres(engine), Some(database)))
        }
    }
}
