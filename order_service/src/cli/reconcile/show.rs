//! What a run did, shown; and how far it is.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use clap::ArgMatches;
use indicatif::{ProgressBar, ProgressStyle};
use reconcile::{Bundle, Diagnostic, Progress, Report};
use serde_json::json;

use super::super::{Failure, bundle, output};
use super::asked::{Asked, Saving};

pub(super) fn report(args: &ArgMatches, asked: &Asked, report: &Report) -> Result<(), Failure> {
    let drifted = report.drifted();
    if output::is_json(args) {
        let mut json = report.to_json();
        if asked.drift {
            json["drift"] = drifted.into();
        }
        output::json(json);
    } else {
        output::lines(report);
    }
    if let Some(complaint) = report.complaint() {
        return Err(Failure::Failed(complaint));
    }
    if asked.drift && drifted {
        let changes: usize = report.outcomes.iter().map(|outcome| outcome.plan.changes.len()).sum();
        let things = if changes == 1 { "thing is" } else { "things are" };
        return Err(Failure::Drift(format!("drift: {changes} {things} not as the bundle says")));
    }
    if let (Saving::PlanOut(file), false) = (&asked.saving, output::is_json(args)) {
        output::line(format!(
            "The plan is in {file}; to carry it out: reconcile --bundle DIR --apply {file}"
        ));
    }
    Ok(())
}

pub(super) fn unsound(args: &ArgMatches, bundle: &Bundle, wrong: &[Diagnostic]) -> Failure {
    if output::is_json(args) {
        output::json(json!({"valid": false, "files": bundle.files(), "errors": wrong}));
    } else {
        wrong.iter().for_each(output::remark);
    }
    bundle::unsound(bundle, wrong)
}

/// A bar over integrations and shards; hidden where nobody looks.
pub(super) fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {bar:30} {pos}/{len} {msg}");
    let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message("reading the bundle");
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

pub(super) fn progress(bar: &ProgressBar) -> Progress {
    let bar = bar.clone();
    Arc::new(move |done, all, what: &str| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        bar.set_message(terminal::printable(what).into_owned());
    })
}
