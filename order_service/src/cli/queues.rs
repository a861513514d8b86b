//! Commands `queues ensure` and `queues bury`.

use clap::ArgMatches;
use configurator::dead_letters::{BuryMessageOptions, bury_message_by_id as bury_message};
use configurator::template::is_queue_name;
use serde_json::json;
use settings::ResolvedSettings;

use super::configurator::{open_queue_place, parse_env_arg};
use super::{CommandFailure, output};
use crate::platform_integration::PLATFORM_QUEUE;
use crate::serve::database::DatabaseAccess;
use crate::settings::QueueSettings;

fn check_queue_name(name: &str) -> Result<(), CommandFailure> {
    if is_queue_name(name) {
        return Ok(());
    }
    Err(CommandFailure::Usage(format!(
        "`{name}` is no queue name: 1 to 60 letters, digits, _ and -"
    )))
}

pub(super) async fn ensure_queues(
    args: &ArgMatches,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let env = parse_env_arg(args)?;
    let settings = QueueSettings::new(resolved)?;
    let queue_names: Vec<String> =
        args.get_many::<String>("name").into_iter().flatten().cloned().collect();
    queue_names.iter().try_for_each(|name| check_queue_name(name))?;
    let (place, database) =
        open_queue_place(&settings.engine, env, resolved, DatabaseAccess::CreateMissing).await?;
    let engine = place.fifo_engine();
    let mut created = Vec::new();
    for name in
        [settings.answer_queue.clone(), PLATFORM_QUEUE.to_owned()].into_iter().chain(queue_names)
    {
        let ensured = if name == settings.answer_queue {
            configurator::queues::ensure_answer_queue(engine.as_ref(), &name, env).await
        } else {
            configurator::queues::ensure_integration_queue(engine.as_ref(), &name, env).await
        };
        created.extend(ensured.map_err(|error| {
            CommandFailure::Failed(format!("{}: {error}", env.queue_name(&name)))
        })?);
    }
    if let Some(database) = database {
        database.close().await;
    }
    if output::is_json_output(args) {
        output::print_json(json!({"queues": created}));
    } else {
        created.iter().for_each(output::print_line);
    }
    Ok(())
}

pub(super) async fn bury_queue_message(
    args: &ArgMatches,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let env = parse_env_arg(args)?;
    let settings = QueueSettings::new(resolved)?;
    let queue = args.get_one::<String>("name").cloned().unwrap_or_default();
    check_queue_name(&queue)?;
    let within = args.get_one::<String>("within").map(String::as_str).unwrap_or_default();
    let within = humantime::parse_duration(within)
        .map_err(|error| CommandFailure::Usage(format!("--within: {error} (such as 90s or 5m)")))?;
    let block_id = args.get_one::<i64>("block-id").copied().unwrap_or_default();
    let (place, database) =
        open_queue_place(&settings.engine, env, resolved, DatabaseAccess::Existing).await?;
    let burial = BuryMessageOptions {
        queue,
        env,
        answer_queue: settings.answer_queue,
        block_id,
        search_timeout: within,
    };
    let buried = bury_message(place.fifo_engine(), &burial).await;
    if let Some(database) = database {
        database.close().await;
    }
    let name = env.queue_name(&burial.queue);
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
    if output::is_json_output(args) {
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
