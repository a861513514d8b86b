//! Measurements of one row.

use crate::figures::Figure;
use crate::report::Chart;

/// Results of a row that completed and whose acknowledged data was verified.
#[derive(Debug, Default)]
pub struct RowOutcome {
    /// Figures of the target, the most important first.
    pub figures: Vec<Figure>,
    /// Limits of the machine, measured in the same run.
    pub limits: Vec<Figure>,
    /// Costs: CPU time, memory, WAL.
    pub costs: Vec<Figure>,
    /// How acknowledged data was verified.
    pub verification: String,
    /// Remarks for the reader of the report.
    pub notes: Vec<String>,
    /// Charts of the row.
    pub charts: Vec<Chart>,
    /// Whether the run was too small for a verdict.
    pub no_verdict: bool,
}

impl RowOutcome {
    /// An outcome with these figures.
    pub fn from_figures(figures: Vec<Figure>) -> Self {
        Self { figures, ..Self::default() }
    }

    /// Adds a limit, and the ratio of the first figure to it under `name`.
    pub fn with_limit(mut self, name: &str, limit: Figure) -> Self {
        if let Some(first) = self.figures.first() {
            self.figures.push(crate::figures::ratio_figure(name, first.median, limit.median));
        }
        self.limits.push(limit);
        self
    }

    /// Adds costs to the outcome.
    pub fn with_costs(mut self, costs: impl IntoIterator<Item = Figure>) -> Self {
        self.costs.extend(costs);
        self
    }

    /// Sets the description of the verification.
    pub fn with_verification(mut self, verification: impl Into<String>) -> Self {
        self.verification = verification.into();
        self
    }

    /// Adds a remark for readers.
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }
}
