//! Command `ledger check`: compares the ledger with its events.

use clap::Args;
use indicatif::ProgressBar;
use ledger::check::{LedgerCheckProgress, LedgerCheckReport, check_shards as check_ledger};
use settings::ResolvedSettings;

use super::definition::{LEDGER_DATABASE_SETTING_NAMES, all_examples, first_example, setting_args};
use super::{CommandFailure, OutputArgs, output};
use order_service::serve::database::{self, DatabaseAccess};
use order_service::serve::ledger as shards;
use order_service::settings::DatabaseSettings;

const EXAMPLES: &str = "order_service ledger check\n         \
                        order_service ledger check --output json";

/// Arguments of the command.
#[derive(Debug, Args)]
#[command(
    about = "Recomputes everything from the raw events and names every difference; exit code 1 if there is one \
             (reads the databases directly, changes nothing)",
    args = setting_args(&LEDGER_DATABASE_SETTING_NAMES),
    after_help = first_example(EXAMPLES),
    after_long_help = all_examples(EXAMPLES)
)]
#[group(skip)]
pub(in crate::cli) struct LedgerCheckArgs {
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) async fn run_ledger_check(
    args: &LedgerCheckArgs,
    resolved: &ResolvedSettings,
) -> Result<(), CommandFailure> {
    let settings = DatabaseSettings::new(resolved)?;
    let database = database::open_control_database(&settings, DatabaseAccess::Existing).await?;
    let shards = shards::open_shards(&settings, &database).await?;
    let bar = output::events_progress_bar("events");
    let report =
        check_ledger(&shards, &database.pool, |advance| show_progress(&bar, advance)).await;
    bar.finish_and_clear();
    let report = report.map_err(anyhow::Error::from)?;
    database.close().await;
    if args.output.is_json() {
        let mut shown = serde_json::json!(report);
        shown["holds"] = report.has_no_differences().into();
        output::print_json(shown);
    } else {
        print_check_report(&report);
    }
    if report.has_no_differences() {
        Ok(())
    } else {
        Err(CommandFailure::Failed("the ledger is not what its events say".to_owned()))
    }
}

fn show_progress(bar: &ProgressBar, advance: LedgerCheckProgress<'_>) {
    if bar.prefix() != advance.stage {
        bar.set_prefix(advance.stage.to_owned());
        bar.reset();
    }
    output::advance_bar(bar, advance.done_events, advance.total_events);
}

fn print_check_report(report: &LedgerCheckReport) {
    let rows = report.shards.iter().map(|read| {
        let differences = report
            .differences
            .iter()
            .filter(|found| found.shard.as_ref() == Some(&read.shard))
            .count();
        [
            read.shard.clone(),
            read.events.to_string(),
            read.last_seq.to_string(),
            read.accounts.to_string(),
            read.sums.to_string(),
            differences.to_string(),
        ]
    });
    output::print_table(
        ["shard", "events", "last number", "accounts", "sums", "differences"],
        rows,
    );
    for found in &report.differences {
        let shard = found.shard.as_deref().unwrap_or("all shards");
        output::print_line(format!("{shard} {}: {}", found.kind.name(), found.what));
    }
    let unnamed = report.difference_count - report.differences.len();
    if unnamed > 0 {
        output::print_line(format!("{unnamed} more"));
    }
    if report.has_no_differences() {
        let events: i64 = report.shards.iter().map(|read| read.events).sum();
        output::print_line(format!(
            "{events} events: numbers, contents, places and sums are as they must be"
        ));
    }
}
