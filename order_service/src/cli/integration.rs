//! `integration check`: the conformance kit against a running integration.

use std::time::Duration;

use clap::ArgMatches;
use configurator::check::{Checked, Outcome, Place, Plan, Report, SoundTask, check as run_checks};
use configurator::template::is_queue;
use queue::fifo::FifoError;
use serde_json::{Value, json};
use settings::Resolved;

use super::configurator::{env, place};
use super::{Failure, output};
use crate::serve::database::Access;
use crate::settings::QueueSettings;

pub(super) async fn check(args: &ArgMatches, resolved: &Resolved) -> Result<(), Failure> {
    let settings = QueueSettings::new(resolved)?;
    let plan = plan(args, &settings)?;
    let (place, database) = place(&settings.engine, plan.env, resolved, Access::Existing).await?;
    let engine = match &place {
        Place::Postgres(_) => "postgres",
        Place::Sqs(_) => "sqs",
    };
    let (queue, env, is_json) = (plan.queue.clone(), plan.env, output::is_json(args));
    let report = checked(place, plan, is_json).await;
    if let Some(database) = database {
        database.close().await;
    }
    let report = report.map_err(|error| failed(&queue, env.name(), &error))?;
    if is_json {
        let mut shown = report.to_json();
        shown["queue"] = env.queue(&queue).into();
        shown["engine"] = engine.into();
        output::json(shown);
    } else {
        sum_up(&report);
    }
    match report.count(Outcome::Failed) {
        0 => Ok(()),
        1 => Err(Failure::Failed("the integration does not keep to the protocol: 1 check failed".to_owned())),
        n => {
            Err(Failure::Failed(format!("the integration does not keep to the protocol: {n} checks failed")))
        }
    }
}

fn plan(args: &ArgMatches, settings: &QueueSettings) -> Result<Plan, Failure> {
    let text = |name: &str| args.get_one::<String>(name).cloned();
    let queue = text("queue").unwrap_or_default();
    if !is_queue(&queue) {
        return Err(Failure::Usage(format!("`{queue}` is no queue name: 1 to 60 letters, digits, _ and -")));
    }
    let sound = object(args, "args")?.unwrap_or_else(|| json!({}));
    let task = text("task").map(|task_type| SoundTask { task_type, args: sound });
    if task.as_ref().is_some_and(|task| task.task_type.is_empty()) {
        return Err(Failure::Usage("--task: a type of task is not empty".to_owned()));
    }
    let patience = text("patience").unwrap_or_default();
    let patience = humantime::parse_duration(&patience)
        .map_err(|error| Failure::Usage(format!("--patience: {error}")))?;
    Ok(Plan {
        queue,
        env: env(args)?,
        answers: settings.answers.clone(),
        task,
        permanent_args: object(args, "permanent-args")?,
        temporary_args: object(args, "temporary-args")?,
        patience: patience.clamp(Duration::from_millis(100), Duration::from_secs(3600)),
    })
}

/// A block's args are an object.
fn object(args: &ArgMatches, name: &str) -> Result<Option<Value>, Failure> {
    let Some(text) = args.get_one::<String>(name) else { return Ok(None) };
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(Some(value)),
        Ok(_) => Err(Failure::Usage(format!("--{name}: must be a JSON object"))),
        Err(error) => Err(Failure::Usage(format!("--{name}: not a JSON object: {error}"))),
    }
}

async fn checked(place: Place, plan: Plan, is_json: bool) -> Result<Report, FifoError> {
    if matches!(place, Place::Postgres(_)) {
        // In Postgres a queue is no more than a name.
        let engine = place.engine();
        configurator::queues::ensure_answers(engine.as_ref(), &plan.answers, plan.env).await?;
        configurator::queues::ensure(engine.as_ref(), &plan.queue, plan.env).await?;
    }
    run_checks(place, plan, |checked| {
        if !is_json {
            show(checked);
        }
    })
    .await
}

fn show(checked: &Checked) {
    output::line(format!("{:<8} {:<21} {}", checked.outcome.name(), checked.name, checked.why));
}

fn sum_up(report: &Report) {
    let count = |outcome: Outcome| report.count(outcome);
    output::line(format!(
        "{} ok, {} failed, {} skipped",
        count(Outcome::Ok),
        count(Outcome::Failed),
        count(Outcome::Skipped)
    ));
    if report.left_behind > 0 {
        output::line(format!(
            "{} unanswered messages of these checks may still be in the queue: the integration had them in hand",
            report.left_behind
        ));
    }
}

fn failed(queue: &str, env: &str, error: &FifoError) -> Failure {
    Failure::Failed(match error {
        FifoError::NoQueue(name) => {
            format!("there is no queue {name}: order_service queues ensure --env {env} {queue}")
        }
        error => error.to_string(),
    })
}
