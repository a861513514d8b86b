//! Command line: dispatches subcommands. Exit codes: 0 measured, 1 a row failed, 2
//! wrong usage, 130 interrupted.

mod definition;
mod hidden;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ArgMatches;
use comfy_table::{ContentArrangement, Table, presets};
use tokio::signal::unix::{SignalKind, signal};

use crate::figures::RowVerdict;
use crate::platform::ProgramPaths;
use crate::progress::ProgressDisplay;
use crate::report::{self, BenchReport, MachineInfo};
use crate::suite::{
    BENCH_ROWS, BenchRow, BenchSession, MeasurementEffort, RowFrequency, run_rows, select_rows,
};
use definition::is_json;

/// Parses and runs the command line.
pub fn main() -> ExitCode {
    if let Some(code) = hidden::run_hidden_command() {
        return code;
    }
    let matches = definition::build_command().get_matches();
    match run_subcommand(&matches) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_subcommand(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    match matches.subcommand() {
        Some(("run", args)) => {
            let Some(rows) = requested_rows(args) else { return Ok(ExitCode::from(2)) };
            let quick = args.get_flag("quick");
            let effort = if quick { MeasurementEffort::QUICK } else { MeasurementEffort::FULL };
            measure_rows(args, &rows, effort, !quick && !args.get_flag("no-save"))
        }
        Some(("quick", args)) => measure_rows(
            args,
            &rows_with_frequency(&[RowFrequency::Daily]),
            MeasurementEffort::QUICK,
            false,
        ),
        Some(("show", args)) => show_saved_results(args),
        _ => {
            list_rows();
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn rows_with_frequency(frequencies: &[RowFrequency]) -> Vec<&'static BenchRow> {
    BENCH_ROWS.iter().filter(|row| frequencies.contains(&row.frequency)).collect()
}

/// The requested rows; `None` after an error message, if a name is unknown.
fn requested_rows(args: &ArgMatches) -> Option<Vec<&'static BenchRow>> {
    let mut rows = Vec::new();
    if args.get_flag("all") {
        rows.extend(rows_with_frequency(&[RowFrequency::Daily, RowFrequency::Usual]));
    }
    if args.get_flag("long") {
        rows.extend(rows_with_frequency(&[RowFrequency::Long]));
    }
    let names: Vec<String> = args.get_many("names").into_iter().flatten().cloned().collect();
    match select_rows(&names) {
        Ok(named) => rows.extend(named),
        Err(unknown) => {
            let known: Vec<&str> = BENCH_ROWS.iter().map(|row| row.id).collect();
            eprintln!("error: `{unknown}` is not a row; there are {}", known.join(", "));
            return None;
        }
    }
    rows.sort_by_key(|row| BENCH_ROWS.iter().position(|other| other.id == row.id));
    rows.dedup_by_key(|row| row.id);
    Some(rows)
}

fn measure_rows(
    args: &ArgMatches,
    rows: &[&'static BenchRow],
    effort: MeasurementEffort,
    save: bool,
) -> anyhow::Result<ExitCode> {
    let programs = ProgramPaths::find(args.get_one::<PathBuf>("bin-dir").map(PathBuf::as_path))?;
    let work_dir = args.get_one::<PathBuf>("work-dir").cloned().unwrap_or_else(std::env::temp_dir);
    let session = BenchSession::new(programs, effort, ProgressDisplay::new(), work_dir);
    // Runs on the main thread: child processes get a signal when the thread that started them ends.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let commit = report::read_commit();
    let measurement = runtime.block_on(async {
        let measuring = async {
            let machine = MachineInfo::examine(&session).await?;
            let rows = run_rows(&session, rows, &commit).await;
            anyhow::Ok(BenchReport { machine, rows })
        };
        tokio::select! {
            report = measuring => Some(report),
            // Dropping the future stops the processes it started.
            () = wait_for_interrupt() => None,
        }
    });
    runtime.shutdown_background();
    let Some(report) = measurement else {
        eprintln!("interrupted: everything is stopped, nothing was kept");
        return Ok(ExitCode::from(130));
    };
    report_results(args, report?, save)
}

fn report_results(args: &ArgMatches, report: BenchReport, save: bool) -> anyhow::Result<ExitCode> {
    let mut failed = report.rows.iter().any(|row| matches!(row.verdict, RowVerdict::Failed(_)));
    print_report(args, &report)?;
    let folder =
        args.get_one::<PathBuf>("results").map_or(Path::new("bench/results"), PathBuf::as_path);
    if let Ok(Some(before)) = report::load_report(folder) {
        let lines = if report.rows.iter().any(|row| row.quick) {
            let slower = report::slower_lines(&report, &before);
            failed |= !slower.is_empty();
            slower
        } else {
            report::agreement_lines(&report, &before)
        };
        lines.iter().for_each(|line| eprintln!("{line}"));
    }
    if save {
        report::save_report(folder, report)?;
        eprintln!("kept in {}", folder.display());
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print_report(args: &ArgMatches, report: &BenchReport) -> anyhow::Result<()> {
    let text = if is_json(args) {
        serde_json::to_string_pretty(report)?
    } else {
        report::render_report(report)
    };
    println!("{text}");
    Ok(())
}

fn show_saved_results(args: &ArgMatches) -> anyhow::Result<ExitCode> {
    let folder =
        args.get_one::<PathBuf>("results").map_or(Path::new("bench/results"), PathBuf::as_path);
    match report::load_report(folder)? {
        Some(report) => print_report(args, &report)?,
        None => anyhow::bail!("nothing was kept in {} yet: bench run --all", folder.display()),
    }
    Ok(ExitCode::SUCCESS)
}

fn list_rows() {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["row", "what", "to reach", "runs with"]);
    for row in BENCH_ROWS {
        let when = match row.frequency {
            RowFrequency::Daily => "quick, --all",
            RowFrequency::Usual => "--all",
            RowFrequency::Long => "--long",
        };
        table.add_row([row.id, row.description, row.target, when]);
    }
    println!("{table}");
}

async fn wait_for_interrupt() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
