//! Execution of rows, sequentially. A failed row does not stop the others.

use std::time::{Duration, Instant};

use super::{Effort, Row, Session, When};
use crate::figures::{Verdict, judge};
use crate::report::RowReport;

/// Timeout of a row.
const USUAL: Duration = Duration::from_secs(15 * 60);
/// Timeout of a long row.
const LONG: Duration = Duration::from_secs(90 * 60);

/// Runs the rows and returns their reports.
pub async fn run(session: &Session, rows: &[&'static Row], commit: &str) -> Vec<RowReport> {
    let mut reports = Vec::with_capacity(rows.len());
    session.progress.begin(rows.len());
    for row in rows {
        session.progress.row(row.id, row.what);
        let report = run_one(session, row, commit).await;
        session.progress.done(&format!("{}: {}", row.id, report.verdict.text()));
        reports.push(report);
    }
    session.progress.end();
    reports
}

async fn run_one(session: &Session, row: &'static Row, commit: &str) -> RowReport {
    let begun = Instant::now();
    let mut report = RowReport {
        id: row.id.to_owned(),
        what: row.what.to_owned(),
        target: row.target.to_owned(),
        verdict: Verdict::MeasuredOnly,
        figures: Vec::new(),
        limits: Vec::new(),
        costs: Vec::new(),
        verified: String::new(),
        notes: Vec::new(),
        charts: Vec::new(),
        measured_at: chrono::Utc::now(),
        commit: commit.to_owned(),
        quick: session.effort != Effort::FULL,
        seconds: 0.0,
    };
    let limit = if row.when == When::Long { LONG } else { USUAL };
    let ran = tokio::time::timeout(limit, (row.run)(session)).await;
    match ran
        .unwrap_or_else(|_| Err(anyhow::anyhow!("not done after {} minutes", limit.as_secs() / 60)))
    {
        Ok(outcome) => {
            let rules = if outcome.unjudged { &[] } else { row.rules };
            report.verdict = judge(rules, &outcome.figures);
            report.figures = outcome.figures;
            report.limits = outcome.limits;
            report.costs = outcome.costs;
            report.verified = outcome.verified;
            report.notes = outcome.notes;
            report.charts = outcome.charts;
        }
        Err(error) => report.verdict = Verdict::Failed(format!("{error:#}")),
    }
    report.seconds = begun.elapsed().as_secs_f64();
    report
}
