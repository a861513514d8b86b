//! Results as files: `latest.json`, and an SVG file per chart.

use std::path::Path;

use anyhow::Context as _;

use super::Report;

const FILE: &str = "latest.json";

/// Loads the results saved in `folder`, if there are any.
pub fn load(folder: &Path) -> anyhow::Result<Option<Report>> {
    let path = folder.join(FILE);
    match std::fs::read(&path) {
        Ok(json) => {
            Ok(Some(serde_json::from_slice(&json).with_context(|| format!("{}", path.display()))?))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{}", path.display())),
    }
}

/// Saves `report` in `folder`. Rows of an earlier run on a similar machine are kept if not measured
/// again; each row has its commit.
pub fn save(folder: &Path, report: Report) -> anyhow::Result<Report> {
    std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    // An unreadable file is replaced.
    let earlier = load(folder).ok().flatten();
    let merged = merge(earlier, report);
    let path = folder.join(FILE);
    let json = serde_json::to_string_pretty(&merged)? + "\n";
    std::fs::write(&path, json).with_context(|| format!("{}", path.display()))?;
    for chart in merged.rows.iter().flat_map(|row| &row.charts) {
        let path = folder.join(format!("{}.svg", chart.file));
        std::fs::write(&path, chart.svg()).with_context(|| format!("{}", path.display()))?;
    }
    Ok(merged)
}

fn merge(earlier: Option<Report>, mut report: Report) -> Report {
    let kept = earlier.filter(|earlier| earlier.machine.is_like(&report.machine));
    for row in kept.into_iter().flat_map(|earlier| earlier.rows) {
        if report.rows.iter().all(|new| new.id != row.id) {
            report.rows.push(row);
        }
    }
    let place = |id: &str| crate::suite::ROWS.iter().position(|row| row.id == id);
    report.rows.sort_by_key(|row| place(&row.id));
    report
}
