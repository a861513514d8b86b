//! Comparison of a run with the saved results.

use super::{BenchReport, RowReport};
use crate::figures::Figure;

/// A line per row measured in both reports: its first figure in each. If the same commit on the
/// same machine disagrees, one of the runs was disturbed.
pub fn agreement_lines(now: &BenchReport, before: &BenchReport) -> Vec<String> {
    let line = |(row, earlier): (&RowReport, &RowReport)| {
        let (new, old) = (row.figures.first()?, earlier.figures.first()?);
        Some(comparison_line(
            earlier,
            new,
            old,
            if new.agrees_with(old) { "agrees with" } else { "DIFFERS from" },
        ))
    };
    rows_in_both(now, before).filter_map(line).collect()
}

/// A line per row whose first figure is worse than the saved one by more than a quarter, which
/// exceeds the noise of short windows. Empty if the machines differ.
pub fn slower_lines(now: &BenchReport, before: &BenchReport) -> Vec<String> {
    let line = |(row, earlier): (&RowReport, &RowReport)| {
        let (new, old) = (row.figures.first()?, earlier.figures.first()?);
        new.is_worse_than(old, 0.25).then(|| comparison_line(earlier, new, old, "SLOWER than"))
    };
    rows_in_both(now, before).filter_map(line).collect()
}

/// The rows in both reports, if they are from similar machines.
fn rows_in_both<'r>(
    now: &'r BenchReport,
    before: &'r BenchReport,
) -> impl Iterator<Item = (&'r RowReport, &'r RowReport)> {
    let rows = if now.machine.is_comparable_to(&before.machine) { &now.rows[..] } else { &[] };
    rows.iter().filter_map(|row| Some((row, before.rows.iter().find(|other| other.id == row.id)?)))
}

fn comparison_line(earlier: &RowReport, new: &Figure, old: &Figure, relation: &str) -> String {
    let (id, when, commit) =
        (&earlier.id, earlier.measured_at.format("%Y-%m-%d %H:%M"), &earlier.commit);
    format!(
        "{id:<3} {relation} the run of {when} ({commit}): {} {}, then {}",
        new.name,
        new.to_text(),
        old.to_text()
    )
}
