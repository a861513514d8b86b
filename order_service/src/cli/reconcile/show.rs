//! Output of a run: report and progress bar.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use reconcile::{Bundle, BundleDiagnostic, ProgressCallback, ReconcileReport};
use serde_json::json;

use super::super::output::OutputArgs;
use super::super::{CommandFailure, bundle, output};
use super::command::{PlanFileMode, ReconcileCommand};

pub(super) fn print_report(
    format: OutputArgs,
    command: &ReconcileCommand,
    report: &ReconcileReport,
) -> Result<(), CommandFailure> {
    let drifted = report.has_drift();
    if format.is_json() {
        let mut json = report.to_json();
        if command.drift_only {
            json["drift"] = drifted.into();
        }
        output::print_json(json);
    } else {
        output::print_lines(report);
    }
    if let Some(complaint) = report.failure_summary() {
        return Err(CommandFailure::Failed(complaint));
    }
    if command.drift_only && drifted {
        let changes: usize = report.outcomes.iter().map(|outcome| outcome.plan.changes.len()).sum();
        let things = if changes == 1 { "thing is" } else { "things are" };
        return Err(CommandFailure::Drift(format!(
            "drift: {changes} {things} not as the bundle says"
        )));
    }
    if let (PlanFileMode::PlanOut(file), false) = (&command.plan_file, format.is_json()) {
        output::print_line(format!(
            "The plan is in {file}; to carry it out: reconcile --bundle DIR --apply {file}"
        ));
    }
    Ok(())
}

pub(super) fn print_unsound_bundle(
    format: OutputArgs,
    bundle: &Bundle,
    diagnostics: &[BundleDiagnostic],
) -> CommandFailure {
    if format.is_json() {
        output::print_json(
            json!({"valid": false, "files": bundle.file_count(), "errors": diagnostics}),
        );
    } else {
        diagnostics.iter().for_each(output::print_remark);
    }
    bundle::unsound_bundle_failure(bundle, diagnostics)
}

/// Progress bar over integrations and shards; hidden unless standard error is a terminal.
pub(super) fn reconcile_progress_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {bar:30} {pos}/{len} {msg}");
    let bar =
        ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message("reading the bundle");
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

pub(super) fn progress_callback(bar: &ProgressBar) -> ProgressCallback {
    let bar = bar.clone();
    Arc::new(move |done, all, what: &str| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        bar.set_message(terminal::escape_control_chars(what).into_owned());
    })
}
