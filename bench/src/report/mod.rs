//! What a run reports: a table for people, JSON for programs, charts for the documentation.

mod agreement;
mod chart;
mod machine;
mod store;
mod table;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use agreement::{agreement, slower};
pub use chart::{Chart, Series};
pub use machine::{Machine, commit};
pub use store::{load, save};
pub use table::text;

use crate::figures::{Figure, Verdict};

/// A run, or several whose rows were put together.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// What.
    pub rows: Vec<RowReport>,
}

/// One row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RowReport {
    /// Its name.
    pub id: String,
    /// The work.
    pub what: String,
    /// What to reach.
    pub target: String,
    /// What is said of it.
    pub verdict: Verdict,
    /// What the target speaks of.
    pub figures: Vec<Figure>,
    /// What the machine allows, measured in the same run.
    pub limits: Vec<Figure>,
    /// What it cost.
    pub costs: Vec<Figure>,
    /// How it was verified that everything acknowledged is there.
    pub verified: String,
    /// What a reader should know.
    pub notes: Vec<String>,
    /// Curves.
    pub charts: Vec<Chart>,
    /// When.
    pub measured_at: DateTime<Utc>,
    /// Of which commit.
    pub commit: String,
    /// A short run: a tendency, no more.
    pub quick: bool,
    /// How long it took.
    pub seconds: f64,
}
