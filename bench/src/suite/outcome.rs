//! What a row has measured.

use crate::figures::Figure;
use crate::report::Chart;

/// Figures of a row that ran to its end and whose acknowledged work was found to be there.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What the target speaks of, the most important first.
    pub figures: Vec<Figure>,
    /// What the machine allows, measured in the same run.
    pub limits: Vec<Figure>,
    /// What it cost: processor time, memory, WAL.
    pub costs: Vec<Figure>,
    /// How it was verified that everything acknowledged is there.
    pub verified: String,
    /// What a reader should know.
    pub notes: Vec<String>,
    /// Curves.
    pub charts: Vec<Chart>,
    /// Too small a run to judge by.
    pub unjudged: bool,
}

impl Outcome {
    /// An outcome with these figures.
    pub fn of(figures: Vec<Figure>) -> Self {
        Self { figures, ..Self::default() }
    }

    /// With a limit, and the first figure's ratio to it under `name`.
    pub fn against(mut self, name: &str, limit: Figure) -> Self {
        if let Some(first) = self.figures.first() {
            self.figures.push(crate::figures::ratio(name, first.median, limit.median));
        }
        self.limits.push(limit);
        self
    }

    /// With costs.
    pub fn costing(mut self, costs: impl IntoIterator<Item = Figure>) -> Self {
        self.costs.extend(costs);
        self
    }

    /// With how it was verified.
    pub fn verified(mut self, how: impl Into<String>) -> Self {
        self.verified = how.into();
        self
    }

    /// With a note.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }
}
