//! `integration check`: runs the conformance kit against a running integration.

use std::time::Duration;

use clap::ArgMatches;
use configurator::check::{
    IntegrationCheckEngine, IntegrationCheckOptions, IntegrationCheckOutcome,
    IntegrationCheckReport, IntegrationCheckResult, IntegrationCheckTask,
    check_integration as run_checks,
};
use configurator::template::is_queue_name;
use queue::fifo::FifoError;
use serde_json::{Value, json};
use settings::ResolvedSettings;

use super::configurator::{open_queue_place, parse_env_arg};
use super::{CommandFailure, output};
use crate::serve::database::DatabaseAccess;
use crate::settings::QueueSettings;

pub(super) async fn check_integration(
    args: &ArgMatches,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let settings = QueueSettings::new(resolved)?;
    let plan = build_check_plan(args, &settings)?;
    let (place, database) =
        open_queue_place(&settings.engine, plan.env, resolved, DatabaseAccess::Existing).await?;
    let engine = match &place {
        IntegrationCheckEngine::Postgres(_) => "postgres",
        IntegrationCheckEngine::Sqs(_) => "sqs",
    };
    let (queue, env, is_json) = (plan.queue.clone(), plan.env, output::is_json_output(args));
    let report = run_conformance_checks(place, plan, is_json).await;
    if let Some(database) = database {
        database.close().await;
    }
    let report = report.map_err(|error| queue_failure(&queue, env.name(), &error))?;
    if is_json {
        let mut shown = report.to_json();
        shown["queue"] = env.queue_name(&queue).into();
        shown["engine"] = engine.into();
        output::print_json(shown);
    } else {
        print_check_summary(&report);
    }
    match report.count_outcome(IntegrationCheckOutcome::Failed) {
        0 => Ok(()),
        1 => Err(CommandFailure::Failed(
            "the integration does not keep to the protocol: 1 check failed".to_owned(),
        )),
        n => Err(CommandFailure::Failed(format!(
            "the integration does not keep to the protocol: {n} checks failed"
        ))),
    }
}

fn build_check_plan(
    args: &ArgMatches,
    settings: &QueueSettings,
) -> Result<IntegrationCheckOptions, CommandFailure> {
    let queue = args.get_one::<String>("queue").cloned().unwrap_or_default();
    if !is_queue_name(&queue) {
        return Err(CommandFailure::Usage(format!(
            "`{queue}` is no queue name: 1 to 60 letters, digits, _ and -"
        )));
    }
    let succeeding_args = parse_object_arg(args, "args")?.unwrap_or_else(|| json!({}));
    let task_type = args.get_one::<String>("task").cloned();
    let task = task_type.map(|task_type| IntegrationCheckTask { task_type, args: succeeding_args });
    if task.as_ref().is_some_and(|task| task.task_type.is_empty()) {
        return Err(CommandFailure::Usage("--task: a type of task is not empty".to_owned()));
    }
    let answer_timeout_text =
        args.get_one::<String>("patience").map(String::as_str).unwrap_or_default();
    let answer_timeout = humantime::parse_duration(answer_timeout_text)
        .map_err(|error| CommandFailure::Usage(format!("--patience: {error}")))?;
    Ok(IntegrationCheckOptions {
        queue,
        env: parse_env_arg(args)?,
        answer_queue: settings.answer_queue.clone(),
        task,
        permanent_args: parse_object_arg(args, "permanent-args")?,
        temporary_args: parse_object_arg(args, "temporary-args")?,
        answer_timeout: answer_timeout.clamp(Duration::from_millis(100), Duration::from_secs(3600)),
    })
}

/// Parses an option that must be a JSON object, as the args of a block are.
fn parse_object_arg(args: &ArgMatches, name: &str) -> Result<Option<Value>, CommandFailure> {
    let Some(text) = args.get_one::<String>(name) else { return Ok(None) };
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(Some(value)),
        Ok(_) => Err(CommandFailure::Usage(format!("--{name}: must be a JSON object"))),
        Err(error) => Err(CommandFailure::Usage(format!("--{name}: not a JSON object: {error}"))),
    }
}

async fn run_conformance_checks(
    place: IntegrationCheckEngine,
    plan: IntegrationCheckOptions,
    is_json: bool,
) -> Result<IntegrationCheckReport, FifoError> {
    if matches!(place, IntegrationCheckEngine::Postgres(_)) {
        // Creating a queue in Postgres is cheap; SQS queues must exist.
        let engine = place.fifo_engine();
        configurator::queues::ensure_answer_queue(engine.as_ref(), &plan.answer_queue, plan.env)
            .await?;
        configurator::queues::ensure_integration_queue(engine.as_ref(), &plan.queue, plan.env)
            .await?;
    }
    run_checks(place, plan, |checked| {
        if !is_json {
            print_check(checked);
        }
    })
    .await
}

fn print_check(checked: &IntegrationCheckResult) {
    output::print_line(format!(
        "{:<8} {:<21} {}",
        checked.outcome.name(),
        checked.name,
        checked.reason
    ));
}

fn print_check_summary(report: &IntegrationCheckReport) {
    output::print_line(format!(
        "{} ok, {} failed, {} skipped",
        report.count_outcome(IntegrationCheckOutcome::Ok),
        report.count_outcome(IntegrationCheckOutcome::Failed),
        report.count_outcome(IntegrationCheckOutcome::Skipped)
    ));
    if report.left_behind > 0 {
        output::print_line(format!(
            "{} unanswered messages of these checks may still be in the queue: the integration had them in hand",
            report.left_behind
        ));
    }
}

fn queue_failure(queue: &str, env: &str, error: &FifoError) -> CommandFailure {
    CommandFailure::Failed(match error {
        FifoError::NoQueue(name) => {
            format!("there is no queue {name}: order_service queues ensure --env {env} {queue}")
        }
        error => error.to_string(),
    })
}
