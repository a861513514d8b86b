//! Measurement effort per figure.

use std::time::Duration;

/// Windows per figure, and size of the data sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// Number of windows per figure; the median counts.
    pub windows: usize,
    /// Length of a window.
    pub window: Duration,
    /// Warm-up before the first window.
    pub warm_up: Duration,
    /// Whether data sets are small: such a run only shows that everything works, and a tendency.
    pub quick: bool,
}

impl Effort {
    /// Effort of runs with verdicts.
    pub const FULL: Self = Self {
        windows: 3,
        window: Duration::from_secs(5),
        warm_up: Duration::from_secs(2),
        quick: false,
    };

    /// Effort for daily development.
    pub const QUICK: Self = Self {
        windows: 1,
        window: Duration::from_secs(3),
        warm_up: Duration::from_secs(1),
        quick: true,
    };

    /// Selects the size of a data set.
    pub fn size(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }
}
