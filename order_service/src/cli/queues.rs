//! `queues ensure` and `queues bury`.

use clap::ArgMatches;
use configurator::bury::{Burial, bury as bury_message};
use configurator::template::is_queue;
use serde_json::json;
use settings::Resolved;

use super::configurator::{env, place};
use super::{Failure, output};
use crate::integration::QUEUE;
use crate::serve::database::Access;
use crate::settings::QueueSettings;

fn checked(name: &str) -> Result<(), Failure> {
    if is_queue(name) {
        return Ok(());
    }
    Err(Failure::Usage(format!("`{name}` is no queue name: 1 to 60 letters, digits, _ and -")))
}

pub(super) async fn ensure(args: &ArgMatches, resolved: &Resolved) -> Result<(), Failure> {
    let env = env(args)?;
    let settings = QueueSettings::new(resolved)?;
    let named: Vec<String> = args.get_many::<String>("name").into_iter().flatten().cloned().collect();
    named.iter().try_for_each(|name| checked(name))?;
    let (place, database) = place(&settings.engine, env, resolved, Access::CreateMissing).await?;
    let engine = place.engine();
    let mut made = Vec::new();
    for name in [settings.answers.clone(), QUEUE.to_owned()].into_iter().chain(named) {
        let ensured = if name == settings.answers {
            configurator::queues::ensure_answers(engine.as_ref(), &name, env).await
        } else {
            configurator::queues::ensure(engine.as_ref(), &name, env).await
        };
        made.extend(ensured.map_err(|error| Failure::Failed(format!("{}: {error}", env.queue(&name))))?);
    }
    if let Some(database) = database {
        database.close().await;
    }
    if output::is_json(args) {
        output::json(json!({"queues": made}));
    } else {
        made.iter().for_each(output::line);
    }
    Ok(())
}

pub(super) async fn bury(args: &ArgMatches, resolved: &Resolved) -> Result<(), Failure> {
    let env = env(args)?;
    let settings = QueueSettings::new(resolved)?;
    let queue = args.get_one::<String>("name").cloned().unwrap_or_default();
    checked(&queue)?;
    let within = args.get_one::<String>("within").map(String::as_str).unwrap_or_default();
    let within = humantime::parse_duration(within)
        .map_err(|error| Failure::Usage(format!("--within: {error} (such as 90s or 5m)")))?;
    let block_id = args.get_one::<i64>("block-id").copied().unwrap_or_default();
    let (place, database) = place(&settings.engine, env, resolved, Access::Existing).await?;
    let burial = Burial { queue, env, answers: settings.answers, block_id, within };
    let buried = bury_message(place.engine(), &burial).await;
    if let Some(database) = database {
        database.close().await;
    }
    let name = env.queue(&burial.queue);
    let Some(receives) = buried.map_err(|error| Failure::Failed(format!("{name}: {error}")))? else {
        let reason = format!(
            "no message of block_id {block_id} came from {name} within {}: it is done, behind another one of its group, or in hand for longer than that (--within)",
            humantime::format_duration(within)
        );
        return Err(Failure::Failed(reason));
    };
    let dead = env.dead_letters(&burial.queue);
    if output::is_json(args) {
        output::json(
            json!({"queue": name, "block_id": block_id, "receives": receives, "dead_letters": dead}),
        );
    } else {
        output::line(format!(
            "block_id {block_id}, received {receives} times before: moved from {name} to {dead}, and answered with an error"
        ));
    }
    Ok(())
}
