//! `configurator forecast`, and where queues are.

use clap::ArgMatches;
use configurator::check::Place;
use configurator::template::Env;
use configurator::{Given, http};
use queue::fifo::{CHANNEL, PostgresFifo};
use serde_json::{Map, Value};
use settings::Resolved;
use store::Notifications;

use super::{Failure, output};
use crate::serve::database::{self, Access, Database};
use crate::serve::{configurator as room, queues};
use crate::settings::{DatabaseSettings, QueueEngine, QueueSettings};

pub(super) fn env(args: &ArgMatches) -> Result<Env, Failure> {
    let env = args.get_one::<String>("env").map(String::as_str).unwrap_or_default();
    env.parse().map_err(|reason| Failure::Usage(format!("--env: {reason}")))
}

fn inputs(args: &ArgMatches, name: &str) -> Result<Map<String, Value>, Failure> {
    let text = args.get_one::<String>(name).map(String::as_str).unwrap_or("{}");
    serde_json::from_str(text)
        .map_err(|error| Failure::Usage(format!("--{name}: not a JSON object: {error}")))
}

pub(super) async fn forecast(args: &ArgMatches, resolved: &Resolved) -> Result<(), Failure> {
    let given = Given {
        template_name: args.get_one::<String>("template-name").cloned().unwrap_or_default(),
        template: match args.get_one::<String>("template") {
            Some(file) => {
                let read = std::fs::read_to_string(file);
                Some(read.map_err(|error| Failure::Failed(format!("--template {file}: {error}")))?)
            }
            None => None,
        },
        env: env(args)?,
        general_inputs: inputs(args, "general-inputs")?,
        env_inputs: inputs(args, "env-inputs")?,
    };
    let settings = QueueSettings::new(resolved)?;
    let database = database::open(&DatabaseSettings::new(resolved)?, Access::Existing).await?;
    let (notifications, _) = Notifications::start(database.pool.clone(), Vec::new());
    let fifo = queues::open(&QueueEngine::Postgres, &database.pool, &notifications).await;
    let configurator = room::of(&settings, &database.pool, &notifications, &fifo);
    let forecast = configurator.forecast(given).await;
    database.close().await;
    let forecast = forecast.map_err(|refused| Failure::Failed(http::refused(refused).to_string()))?;
    if output::is_json(args) {
        output::json(http::forecast_json(&forecast));
        return Ok(());
    }
    let rows = forecast.into_iter().map(|block| {
        let action = block.action.map_or("cached", configurator::protocol::Action::name);
        let remark = if block.may_be_cached { "unless its inputs turn out unchanged" } else { "" };
        [block.name, block.integration, action.to_owned(), remark.to_owned()]
    });
    output::table(["block", "integration", "action", ""], rows);
    Ok(())
}

/// Where the queues of an environment are. Those at Amazon's need no database.
pub(super) async fn place(
    engine: &QueueEngine,
    env: Env,
    resolved: &Resolved,
    access: Access,
) -> Result<(Place, Option<Database>), Failure> {
    match engine {
        QueueEngine::Sqs(accounts) => {
            let account = accounts.envs.get(&env);
            let account = account
                .ok_or_else(|| Failure::Failed(format!("--queues says nothing of the environment {env}")))?;
            Ok((Place::Sqs(accounts.open(account).await), None))
        }
        QueueEngine::Postgres => {
            let database = database::open(&DatabaseSettings::new(resolved)?, access).await?;
            let (notifications, _) = Notifications::start(database.pool.clone(), vec![CHANNEL]);
            let engine = PostgresFifo::new(database.pool.clone(), notifications);
            Ok((Place::Postgres(engine), Some(database)))
        }
    }
}
