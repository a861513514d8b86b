//! Command line: dispatches subcommands. Exit codes: 0 measured, 1 a row failed, 2
//! wrong usage, 130 interrupted.

mod definition;
mod hidden;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ArgMatches;
use comfy_table::{ContentArrangement, Table, presets};
use tokio::signal::unix::{SignalKind, signal};

use crate::figures::Verdict;
use crate::platform::Programs;
use crate::progress::Progress;
use crate::report::{self, Machine, Report};
use crate::suite::{Effort, ROWS, Row, Session, When, run, select};
use definition::is_json;

/// Parses and runs the command line.
pub fn main() -> ExitCode {
    if let Some(code) = hidden::role() {
        return code;
    }
    let matches = definition::command().get_matches();
    match dispatch(&matches) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    match matches.subcommand() {
        Some(("run", args)) => {
            let Some(rows) = wanted(args) else { return Ok(ExitCode::from(2)) };
            let quick = args.get_flag("quick");
            let effort = if quick { Effort::QUICK } else { Effort::FULL };
            perform(args, &rows, effort, !quick && !args.get_flag("no-save"))
        }
        Some(("quick", args)) => perform(args, &rows_of(&[When::Daily]), Effort::QUICK, false),
        Some(("show", args)) => show(args),
        _ => {
            list();
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn rows_of(when: &[When]) -> Vec<&'static Row> {
    ROWS.iter().filter(|row| when.contains(&row.when)).collect()
}

/// The requested rows; `None` after an error message, if a name is unknown.
fn wanted(args: &ArgMatches) -> Option<Vec<&'static Row>> {
    let mut rows = Vec::new();
    if args.get_flag("all") {
        rows.extend(rows_of(&[When::Daily, When::Usual]));
    }
    if args.get_flag("long") {
        rows.extend(rows_of(&[When::Long]));
    }
    let names: Vec<String> = args.get_many("names").into_iter().flatten().cloned().collect();
    match select(&names) {
        Ok(named) => rows.extend(named),
        Err(unknown) => {
            let known: Vec<&str> = ROWS.iter().map(|row| row.id).collect();
            eprintln!("error: `{unknown}` is not a row; there are {}", known.join(", "));
            return None;
        }
    }
    rows.sort_by_key(|row| ROWS.iter().position(|other| other.id == row.id));
    rows.dedup_by_key(|row| row.id);
    Some(rows)
}

fn perform(
    args: &ArgMatches,
    rows: &[&'static Row],
    effort: Effort,
    keep: bool,
) -> anyhow::Result<ExitCode> {
    let programs = Programs::find(args.get_one::<PathBuf>("bin-dir").map(PathBuf::as_path))?;
    let work_dir = args.get_one::<PathBuf>("work-dir").cloned().unwrap_or_else(std::env::temp_dir);
    let session = Session::new(programs, effort, Progress::new(), work_dir);
    // Runs on the main thread: child processes get a signal when the thread that started them ends.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let commit = report::commit();
    let measured = runtime.block_on(async {
        let measuring = async {
            let machine = Machine::look(&session).await?;
            let rows = run(&session, rows, &commit).await;
            anyhow::Ok(Report { machine, rows })
        };
        tokio::select! {
            report = measuring => Some(report),
            // Dropping the future stops the processes it started.
            () = interrupted() => None,
        }
    });
    runtime.shutdown_background();
    let Some(report) = measured else {
        eprintln!("interrupted: everything is stopped, nothing was kept");
        return Ok(ExitCode::from(130));
    };
    finish(args, report?, keep)
}

fn finish(args: &ArgMatches, report: Report, keep: bool) -> anyhow::Result<ExitCode> {
    let mut failed = report.rows.iter().any(|row| matches!(row.verdict, Verdict::Failed(_)));
    print(args, &report)?;
    let folder =
        args.get_one::<PathBuf>("results").map_or(Path::new("bench/results"), PathBuf::as_path);
    if let Ok(Some(before)) = report::load(folder) {
        let lines = if report.rows.iter().any(|row| row.quick) {
            let slower = report::slower(&report, &before);
            failed |= !slower.is_empty();
            slower
        } else {
            report::agreement(&report, &before)
        };
        lines.iter().for_each(|line| eprintln!("{line}"));
    }
    if keep {
        report::save(folder, report)?;
        eprintln!("kept in {}", folder.display());
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(args: &ArgMatches, report: &Report) -> anyhow::Result<()> {
    let text =
        if is_json(args) { serde_json::to_string_pretty(report)? } else { report::text(report) };
    println!("{text}");
    Ok(())
}

fn show(args: &ArgMatches) -> anyhow::Result<ExitCode> {
    let folder =
        args.get_one::<PathBuf>("results").map_or(Path::new("bench/results"), PathBuf::as_path);
    match report::load(folder)? {
        Some(report) => print(args, &report)?,
        None => anyhow::bail!("nothing was kept in {} yet: bench run --all", folder.display()),
    }
    Ok(ExitCode::SUCCESS)
}

fn list() {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["row", "what", "to reach", "runs with"]);
    for row in ROWS {
        let when = match row.when {
            When::Daily => "quick, --all",
            When::Usual => "--all",
            When::Long => "--long",
        };
        table.add_row([row.id, row.what, row.target, when]);
    }
    println!("{table}");
}

async fn interrupted() {
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
