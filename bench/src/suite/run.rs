//! Execution of rows, sequentially. A failed row does not stop the others.

use std::time::{Duration, Instant};

use super::{BenchRow, BenchSession, MeasurementEffort, RowFrequency};
use crate::figures::{RowVerdict, judge_figures};
use crate::report::RowReport;

/// Timeout of a row.
const ROW_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Timeout of a long row.
const LONG_ROW_TIMEOUT: Duration = Duration::from_secs(90 * 60);

/// Runs the rows and returns their reports.
pub async fn run_rows(
    session: &BenchSession,
    rows: &[&'static BenchRow],
    commit: &str,
) -> Vec<RowReport> {
    let mut reports = Vec::with_capacity(rows.len());
    session.progress.set_row_count(rows.len());
    for row in rows {
        session.progress.start_row(row.id, row.description);
        let report = run_row(session, row, commit).await;
        session.progress.finish_row(&format!("{}: {}", row.id, report.verdict.to_text()));
        reports.push(report);
    }
    session.progress.finish();
    reports
}

async fn run_row(session: &BenchSession, row: &'static BenchRow, commit: &str) -> RowReport {
    let begun = Instant::now();
    let mut report = RowReport {
        id: row.id.to_owned(),
        what: row.description.to_owned(),
        target: row.target.to_owned(),
        verdict: RowVerdict::MeasuredOnly,
        figures: Vec::new(),
        limits: Vec::new(),
        costs: Vec::new(),
        verified: String::new(),
        notes: Vec::new(),
        charts: Vec::new(),
        measured_at: chrono::Utc::now(),
        commit: commit.to_owned(),
        quick: session.effort != MeasurementEffort::FULL,
        seconds: 0.0,
    };
    let timeout = if row.frequency == RowFrequency::Long { LONG_ROW_TIMEOUT } else { ROW_TIMEOUT };
    let result = tokio::time::timeout(timeout, (row.measure)(session)).await;
    match result.unwrap_or_else(|_| {
        Err(anyhow::anyhow!("not done after {} minutes", timeout.as_secs() / 60))
    }) {
        Ok(outcome) => {
            let rules = if outcome.no_verdict { &[] } else { row.rules };
            report.verdict = judge_figures(rules, &outcome.figures);
            report.figures = outcome.figures;
            report.limits = outcome.limits;
            report.costs = outcome.costs;
            report.verified = outcome.verification;
            report.notes = outcome.notes;
            report.charts = outcome.charts;
        }
        Err(error) => report.verdict = RowVerdict::Failed(format!("{error:#}")),
    }
    report.seconds = begun.elapsed().as_secs_f64();
    report
}
