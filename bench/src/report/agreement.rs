//! Whether a run says the same as the one that was kept before it.

use super::Report;

/// A line for each row that both have measured: its first figure now and then. A run that does not agree with the one
/// before it, of the same commit on the same machine, was disturbed, or the other one was.
pub fn agreement(now: &Report, before: &Report) -> Vec<String> {
    if !now.machine.is_like(&before.machine) {
        return Vec::new();
    }
    let rows = now.rows.iter().filter_map(|row| {
        let earlier = before.rows.iter().find(|other| other.id == row.id)?;
        let (new, old) = (row.figures.first()?, earlier.figures.first()?);
        let word = if new.agrees_with(old) { "agrees with" } else { "DIFFERS from" };
        let (id, name, when) = (&row.id, &new.name, earlier.measured_at.format("%Y-%m-%d %H:%M"));
        let commit = &earlier.commit;
        Some(format!(
            "{id:<3} {word} the run of {when} ({commit}): {name} {}, then {}",
            new.text(),
            old.text()
        ))
    });
    rows.collect()
}
