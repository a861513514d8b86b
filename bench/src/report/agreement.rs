//! Whether a run says the same as the one that was kept before it.

use super::{Report, RowReport};
use crate::figures::Figure;

/// A line for each row that both have measured: its first figure now and then. A run that does not agree with the one
/// before it, of the same commit on the same machine, was disturbed, or the other one was.
pub fn agreement(now: &Report, before: &Report) -> Vec<String> {
    let line = |(row, earlier): (&RowReport, &RowReport)| {
        let (new, old) = (row.figures.first()?, earlier.figures.first()?);
        Some(compared(
            earlier,
            new,
            old,
            if new.agrees_with(old) { "agrees with" } else { "DIFFERS from" },
        ))
    };
    pairs(now, before).filter_map(line).collect()
}

/// A line for each row of a short run whose first figure is clearly worse than in the run that was kept: by more than a
/// quarter, which is more than the noise of short windows. Empty if nothing is, or nothing was kept on such a machine.
pub fn slower(now: &Report, before: &Report) -> Vec<String> {
    let line = |(row, earlier): (&RowReport, &RowReport)| {
        let (new, old) = (row.figures.first()?, earlier.figures.first()?);
        new.is_worse_than(old, 0.25).then(|| compared(earlier, new, old, "SLOWER than"))
    };
    pairs(now, before).filter_map(line).collect()
}

/// The rows that both have measured, if the machines are alike.
fn pairs<'r>(
    now: &'r Report,
    before: &'r Report,
) -> impl Iterator<Item = (&'r RowReport, &'r RowReport)> {
    let rows = if now.machine.is_like(&before.machine) { &now.rows[..] } else { &[] };
    rows.iter().filter_map(|row| Some((row, before.rows.iter().find(|other| other.id == row.id)?)))
}

fn compared(earlier: &RowReport, new: &Figure, old: &Figure, word: &str) -> String {
    let (id, when, commit) =
        (&earlier.id, earlier.measured_at.format("%Y-%m-%d %H:%M"), &earlier.commit);
    format!(
        "{id:<3} {word} the run of {when} ({commit}): {} {}, then {}",
        new.name,
        new.text(),
        old.text()
    )
}
