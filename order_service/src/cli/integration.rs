//! `integration check`: runs the conformance kit against a running integration.

use std::time::Duration;

use clap::{Args, Subcommand};
use configurator::check::{
    IntegrationCheckEngine, IntegrationCheckOptions, IntegrationCheckOutcome,
    IntegrationCheckReport, IntegrationCheckResult, IntegrationCheckTask,
    check_integration as run_checks,
};
use queue::fifo::FifoError;
use serde_json::Value;
use settings::ResolvedSettings;

use super::configurator::open_queue_engine;
use super::definition::{QUEUE_SETTING_NAMES, all_examples, first_example, setting_args};
use super::output::OutputArgs;
use super::queue_args::{EnvArg, check_queue_name};
use super::{CommandFailure, missing_subcommand, output};
use order_service::serve::database::DatabaseAccess;
use order_service::settings::QueueSettings;

const CHECK_EXAMPLES: &str = "order_service integration check --queue balance --env test\n         \
     order_service integration check --queue balance --task set_service --args '{\"service_id\": 5}'\n\n\
     Without --task only what needs no task that succeeds is checked. Exit codes: 0 no fault found, 1 faults (or the \
     queues do not answer), 2 wrong usage.";

/// Commands `integration …`.
#[derive(Debug, Subcommand)]
pub(super) enum IntegrationCommand {
    Check(CheckIntegrationArgs),
}

/// Arguments of `integration check`.
#[derive(Debug, Args)]
#[command(
    about = "Checks that a running integration keeps to the protocol: answers, idempotency, order",
    args = setting_args(&QUEUE_SETTING_NAMES),
    after_help = first_example(CHECK_EXAMPLES),
    after_long_help = all_examples(CHECK_EXAMPLES),
    mut_arg("env", |env| env.required(false).default_value("test"))
)]
#[group(skip)]
pub(super) struct CheckIntegrationArgs {
    #[arg(
        long,
        value_name = "NAME",
        help = "The integration's queue, without environment and ending"
    )]
    queue: String,
    #[command(flatten)]
    env: EnvArg,
    #[arg(
        long,
        value_name = "TYPE",
        help = "A task type of the integration: the part of `integration` after the dot"
    )]
    task: Option<String>,
    #[arg(
        long = "args",
        value_name = "JSON",
        default_value = "{}",
        requires = "task",
        help = "Args with which the task succeeds"
    )]
    succeeding_args: String,
    #[arg(
        long,
        value_name = "JSON",
        requires = "task",
        help = "Args with which the task fails for good"
    )]
    permanent_args: Option<String>,
    #[arg(
        long,
        value_name = "JSON",
        requires = "task",
        help = "Args with which the task fails for now"
    )]
    temporary_args: Option<String>,
    #[arg(long, value_name = "TIME", default_value = "10s", help = "How long an answer may take")]
    patience: String,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run_integration_command(
    command: Option<IntegrationCommand>,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    match command.ok_or_else(|| missing_subcommand("integration"))? {
        IntegrationCommand::Check(args) => check_integration(&args, resolved).await,
    }
}

async fn check_integration(
    args: &CheckIntegrationArgs,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let settings = QueueSettings::new(resolved)?;
    let plan = build_check_plan(args, &settings)?;
    let (queue_engine, database) =
        open_queue_engine(&settings.engine, plan.env, resolved, DatabaseAccess::Existing).await?;
    let engine = match &queue_engine {
        IntegrationCheckEngine::Postgres(_) => "postgres",
        IntegrationCheckEngine::Sqs(_) => "sqs",
    };
    let (queue, env, is_json) = (plan.queue.clone(), plan.env, args.output.is_json());
    let report = run_conformance_checks(queue_engine, plan, is_json).await;
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
    args: &CheckIntegrationArgs,
    settings: &QueueSettings,
) -> Result<IntegrationCheckOptions, CommandFailure> {
    let queue = args.queue.clone();
    check_queue_name(&queue)?;
    let succeeding_args = parse_json_object("--args", &args.succeeding_args)?;
    let task_type = args.task.clone();
    let task = task_type.map(|task_type| IntegrationCheckTask { task_type, args: succeeding_args });
    if task.as_ref().is_some_and(|task| task.task_type.is_empty()) {
        return Err(CommandFailure::Usage("--task: a type of task is not empty".to_owned()));
    }
    let answer_timeout = humantime::parse_duration(&args.patience)
        .map_err(|error| CommandFailure::Usage(format!("--patience: {error}")))?;
    Ok(IntegrationCheckOptions {
        queue,
        env: args.env.env,
        answer_queue: settings.answer_queue.clone(),
        task,
        permanent_args: parse_optional_object("--permanent-args", &args.permanent_args)?,
        temporary_args: parse_optional_object("--temporary-args", &args.temporary_args)?,
        answer_timeout: answer_timeout.clamp(Duration::from_millis(100), Duration::from_secs(3600)),
    })
}

/// Parses an option that must be a JSON object, as the args of a block are.
fn parse_json_object(flag: &str, text: &str) -> Result<Value, CommandFailure> {
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(CommandFailure::Usage(format!("{flag}: must be a JSON object"))),
        Err(error) => Err(CommandFailure::Usage(format!("{flag}: not a JSON object: {error}"))),
    }
}

fn parse_optional_object(
    flag: &str,
    text: &Option<String>,
) -> Result<Option<Value>, CommandFailure> {
    text.as_ref().map(|text| parse_json_object(flag, text)).transpose()
}

async fn run_conformance_checks(
    queue_engine: IntegrationCheckEngine,
    plan: IntegrationCheckOptions,
    is_json: bool,
) -> Result<IntegrationCheckReport, FifoError> {
    if matches!(queue_engine, IntegrationCheckEngine::Postgres(_)) {
        // Creating a queue in Postgres is cheap; SQS queues must exist.
        let engine = queue_engine.fifo_engine();
        configurator::queues::ensure_answer_queue(engine.as_ref(), &plan.answer_queue, plan.env)
            .await?;
        configurator::queues::ensure_integration_queue(engine.as_ref(), &plan.queue, plan.env)
            .await?;
    }
    run_checks(queue_engine, plan, |checked| {
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
