//! Reports: a table for people, JSON for programs, charts for the documentation.

mod chart;
mod comparison;
mod machine;
mod store;
mod table;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use chart::{Chart, ChartSeries};
pub use comparison::{agreement_lines, slower_lines};
pub use machine::{MachineInfo, read_commit};
pub use store::{load_report, save_report};
pub use table::render_report;

use crate::figures::{Figure, RowVerdict};

/// A run, or the merged rows of several runs.
#[derive(Debug, Serialize, Deserialize)]
pub struct BenchReport {
    /// The machine of the run.
    pub machine: MachineInfo,
    /// Rows in table order.
    pub rows: Vec<RowReport>,
}

/// Results of one row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RowReport {
    /// Row name, such as `O1`.
    pub id: String,
    /// Description of the workload.
    pub what: String,
    /// Target as text.
    pub target: String,
    /// Verdict of the target's rules.
    pub verdict: RowVerdict,
    /// Figures, the most important first.
    pub figures: Vec<Figure>,
    /// Limits of the machine, measured in the same run.
    pub limits: Vec<Figure>,
    /// Costs: CPU time, memory, WAL.
    pub costs: Vec<Figure>,
    /// How acknowledged data was verified.
    pub verified: String,
    /// Remarks for the reader of the report.
    pub notes: Vec<String>,
    /// Charts of the row.
    pub charts: Vec<Chart>,
    /// Start time of the measurement.
    pub measured_at: DateTime<Utc>,
    /// Commit of the working tree.
    pub commit: String,
    /// Whether it was a short run, which only shows a tendency.
    pub quick: bool,
    /// Duration of the row in seconds.
    pub seconds: f64,
}
