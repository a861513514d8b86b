//! Results as files: `latest.json`, and an SVG file per chart.

use std::path::Path;

use anyhow::Context as _;

use super::BenchReport;

const RESULTS_FILE_NAME: &str = "latest.json";

/// Loads the results saved in `folder`, if there are any.
pub fn load_report(folder: &Path) -> anyhow::Result<Option<BenchReport>> {
    let path = folder.join(RESULTS_FILE_NAME);
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
pub fn save_report(folder: &Path, report: BenchReport) -> anyhow::Result<BenchReport> {
    std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    // An unreadable file is replaced.
    let earlier = load_report(folder).ok().flatten();
    let merged = merge_reports(earlier, report);
    let path = folder.join(RESULTS_FILE_NAME);
    let json = serde_json::to_string_pretty(&merged)? + "\n";
    std::fs::write(&path, json).with_context(|| format!("{}", path.display()))?;
    for chart in merged.rows.iter().flat_map(|row| &row.charts) {
        let path = folder.join(format!("{}.svg", chart.file));
        std::fs::write(&path, chart.render_svg()).with_context(|| format!("{}", path.display()))?;
    }
    Ok(merged)
}

fn merge_reports(earlier: Option<BenchReport>, mut report: BenchReport) -> BenchReport {
    let comparable = earlier.filter(|earlier| earlier.machine.is_comparable_to(&report.machine));
    for row in comparable.into_iter().flat_map(|earlier| earlier.rows) {
        if report.rows.iter().all(|new| new.id != row.id) {
            report.rows.push(row);
        }
    }
    let position = |id: &str| crate::suite::BENCH_ROWS.iter().position(|row| row.id == id);
    report.rows.sort_by_key(|row| position(&row.id));
    report
}
