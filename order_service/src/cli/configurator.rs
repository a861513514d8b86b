//! Command `configurator forecast`, and the queue engine of an environment.

use clap::{Args, Subcommand};
use configurator::check::IntegrationCheckEngine;
use configurator::template::Env;
use configurator::{RunRequest, http};
use queue::fifo::{FIFO_CHANNEL, PgFifo};
use serde_json::{Map, Value};
use settings::ResolvedSettings;
use store::PgNotificationHub;

use super::definition::{DATABASE_SETTING_NAMES, all_examples, first_example, setting_args};
use super::output::OutputArgs;
use super::queue_args::EnvArg;
use super::{CommandFailure, missing_subcommand, output};
use order_service::serve::database::{self, ControlDatabase, DatabaseAccess};
use order_service::serve::{configurator as room, queues};
use order_service::settings::{DatabaseSettings, QueueEngine, QueueSettings};

const FORECAST_EXAMPLES: &str = "order_service configurator forecast --template shop.yaml --template-name shop --env test --general-inputs '{\"id\": 5}'";
/// The usage that clap generates is wider than a terminal.
const FORECAST_USAGE: &str =
    "order_service configurator forecast --template-name <NAME> --env <ENV>";

/// Commands `configurator …`.
#[derive(Debug, Subcommand)]
pub(super) enum ConfiguratorCommand {
    Forecast(ForecastArgs),
}

/// Arguments of `configurator forecast`.
#[derive(Debug, Args)]
#[command(
    about = "Shows which create, update and delete each block would get from a template, without sending anything",
    override_usage = FORECAST_USAGE,
    args = setting_args(&DATABASE_SETTING_NAMES),
    after_help = first_example(FORECAST_EXAMPLES),
    after_long_help = all_examples(FORECAST_EXAMPLES)
)]
#[group(skip)]
pub(super) struct ForecastArgs {
    #[arg(
        long,
        value_name = "FILE",
        help = "The template [default: the one that was put under the name]"
    )]
    template: Option<String>,
    #[arg(long, value_name = "NAME", help = "The instance's template name")]
    template_name: String,
    #[command(flatten)]
    env: EnvArg,
    #[arg(long, value_name = "JSON", default_value = "{}", help = "The template's general inputs")]
    general_inputs: String,
    #[arg(
        long,
        value_name = "JSON",
        default_value = "{}",
        help = "The template's inputs of the environment"
    )]
    env_inputs: String,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run_configurator_command(
    command: Option<ConfiguratorCommand>,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    match command.ok_or_else(|| missing_subcommand("configurator"))? {
        ConfiguratorCommand::Forecast(args) => {
            Box::pin(run_forecast_command(&args, resolved)).await
        }
    }
}

fn parse_inputs(flag: &str, text: &str) -> Result<Map<String, Value>, CommandFailure> {
    serde_json::from_str(text)
        .map_err(|error| CommandFailure::Usage(format!("{flag}: not a JSON object: {error}")))
}

async fn run_forecast_command(
    args: &ForecastArgs,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let run_request = RunRequest {
        template_name: args.template_name.clone(),
        template: match &args.template {
            Some(file) => {
                let read = std::fs::read_to_string(file);
                Some(read.map_err(|error| {
                    CommandFailure::Failed(format!("--template {file}: {error}"))
                })?)
            }
            None => None,
        },
        env: args.env.env,
        general_inputs: parse_inputs("--general-inputs", &args.general_inputs)?,
        env_inputs: parse_inputs("--env-inputs", &args.env_inputs)?,
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
    if args.output.is_json() {
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
pub(super) async fn open_queue_engine(
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
