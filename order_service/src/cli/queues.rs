//! Commands `queues ensure` and `queues bury`.

use audit::{AuditAction, AuditDifference, AuditEntry};
use clap::{Args, Subcommand};
use configurator::BlockId;
use configurator::dead_letters::{BuryMessageOptions, bury_message_by_id as bury_message};
use serde_json::json;
use settings::ResolvedSettings;

use super::audited::record_act;
use super::configurator::open_queue_engine;
use super::definition::{QUEUE_SETTING_NAMES, all_examples, first_example, setting_args};
use super::output::OutputArgs;
use super::queue_args::{EnvArg, check_queue_name};
use super::{CommandFailure, missing_subcommand, output};
use order_service::platform_integration::PLATFORM_QUEUE;
use order_service::serve::database::DatabaseAccess;
use order_service::settings::QueueSettings;

const ENSURE_EXAMPLES: &str = "order_service queues ensure --env test balance";
const BURY_EXAMPLES: &str = "order_service queues bury --env test --block-id 4711 balance";

/// Commands `queues …`.
#[derive(Debug, Subcommand)]
pub(super) enum QueuesCommand {
    Ensure(EnsureQueuesArgs),
    Bury(BuryMessageArgs),
}

/// Arguments of `queues ensure`.
#[derive(Debug, Args)]
#[command(
    about = "Makes the queues of an environment: of answers, of the integration platform, and those named",
    args = setting_args(&QUEUE_SETTING_NAMES),
    after_help = first_example(ENSURE_EXAMPLES),
    after_long_help = all_examples(ENSURE_EXAMPLES)
)]
#[group(skip)]
pub(super) struct EnsureQueuesArgs {
    #[command(flatten)]
    env: EnvArg,
    #[arg(
        value_name = "NAME",
        num_args = 1,
        help = "An integration's queue, without environment and ending"
    )]
    names: Vec<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `queues bury`.
#[derive(Debug, Args)]
#[command(
    about = "Takes a message that its integration dies of out of the way: puts it among the dead letters, and answers its block with an error",
    args = setting_args(&QUEUE_SETTING_NAMES),
    after_help = first_example(BURY_EXAMPLES),
    after_long_help = all_examples(BURY_EXAMPLES)
)]
#[group(skip)]
pub(super) struct BuryMessageArgs {
    #[command(flatten)]
    env: EnvArg,
    #[arg(
        long,
        value_name = "ID",
        help = "The message's block_id: a time-out names the older one that was in the way"
    )]
    block_id: i64,
    #[arg(
        long,
        value_name = "TIME",
        default_value = "1m",
        help = "How long it is looked for: what an integration has in hand comes back after the visibility time-out"
    )]
    within: String,
    #[arg(value_name = "NAME", help = "The integration's queue, without environment and ending")]
    queue_name: String,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run_queues_command(
    command: Option<QueuesCommand>,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    match command.ok_or_else(|| missing_subcommand("queues"))? {
        QueuesCommand::Ensure(args) => ensure_queues(&args, resolved).await,
        QueuesCommand::Bury(args) => bury_queue_message(&args, resolved).await,
    }
}

async fn ensure_queues(
    args: &EnsureQueuesArgs,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let env = args.env.env;
    let settings = QueueSettings::new(resolved)?;
    args.names.iter().try_for_each(|name| check_queue_name(name))?;
    let (queue_engine, database) =
        open_queue_engine(&settings.engine, env, resolved, DatabaseAccess::CreateMissing).await?;
    let engine = queue_engine.fifo_engine();
    let (mut created, mut failure) = (Vec::new(), None);
    for name in [settings.answer_queue.clone(), PLATFORM_QUEUE.to_owned()]
        .into_iter()
        .chain(args.names.iter().cloned())
    {
        let ensured = if name == settings.answer_queue {
            configurator::queues::ensure_answer_queue(engine.as_ref(), &name, env).await
        } else {
            configurator::queues::ensure_integration_queue(engine.as_ref(), &name, env).await
        };
        match ensured {
            Ok(queues) => created.extend(queues),
            Err(error) => {
                failure = Some(format!("{}: {error}", env.queue_name(&name)));
                break;
            }
        }
    }
    if let Some(database) = database
        && !created.is_empty()
    {
        let difference = AuditDifference::default().with_fact("queues", created.clone());
        let entry = AuditEntry::new(AuditAction::QueueEnsure, "queue_env", env, &difference);
        record_act(&database.pool, entry).await?;
        database.close().await;
    }
    if let Some(failure) = failure {
        return Err(CommandFailure::Failed(failure));
    }
    if args.output.is_json() {
        output::print_json(json!({"queues": created}));
    } else {
        created.iter().for_each(output::print_line);
    }
    Ok(())
}

fn burial_entry(queue: &str, block_id: BlockId, receives: u32) -> AuditEntry {
    let difference = AuditDifference::default()
        .with_fact("block_id", block_id.get())
        .with_fact("receives", receives);
    AuditEntry::new(AuditAction::QueueBury, "queue", queue, &difference)
}

async fn bury_queue_message(
    args: &BuryMessageArgs,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let env = args.env.env;
    let settings = QueueSettings::new(resolved)?;
    check_queue_name(&args.queue_name)?;
    let within = humantime::parse_duration(&args.within)
        .map_err(|error| CommandFailure::Usage(format!("--within: {error} (such as 90s or 5m)")))?;
    let block_id = BlockId(args.block_id);
    let (queue_engine, database) =
        open_queue_engine(&settings.engine, env, resolved, DatabaseAccess::Existing).await?;
    let burial = BuryMessageOptions {
        queue: args.queue_name.clone(),
        env,
        answer_queue: settings.answer_queue,
        block_id,
        search_timeout: within,
    };
    let buried = bury_message(queue_engine.fifo_engine(), &burial).await;
    let name = env.queue_name(&burial.queue);
    if let Some(database) = database {
        if let Ok(Some(receives)) = buried {
            record_act(&database.pool, burial_entry(&name, block_id, receives)).await?;
        }
        database.close().await;
    }
    let Some(receives) =
        buried.map_err(|error| CommandFailure::Failed(format!("{name}: {error}")))?
    else {
        let reason = format!(
            "no message of block_id {block_id} came from {name} within {}: it is done, behind another one of its group, or in hand for longer than that (--within)",
            humantime::format_duration(within)
        );
        return Err(CommandFailure::Failed(reason));
    };
    let dead = env.dead_letter_queue_name(&burial.queue);
    if args.output.is_json() {
        output::print_json(
            json!({"queue": name, "block_id": block_id, "receives": receives, "dead_letters": dead}),
        );
    } else {
        output::print_line(format!(
            "block_id {block_id}, received {receives} times before: moved from {name} to {dead}, and answered with an error"
        ));
    }
    Ok(())
}
