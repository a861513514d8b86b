//! Measurement effort per figure.

use std::time::Duration;

/// Windows per figure, and size of the data sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeasurementEffort {
    /// Number of windows per figure; the median counts.
    pub window_count: usize,
    /// Length of a window.
    pub window_length: Duration,
    /// Warm-up before the first window.
    pub warm_up: Duration,
    /// Whether data sets are small: such a run only shows that everything works, and a tendency.
    pub is_quick: bool,
}

impl MeasurementEffort {
    /// Effort of runs with verdicts.
    pub const FULL: Self = Self {
        window_count: 3,
        window_length: Duration::from_secs(5),
        warm_up: Duration::from_secs(2),
        is_quick: false,
    };

    /// Effort for daily development.
    pub const QUICK: Self = Self {
        window_count: 1,
        window_length: Duration::from_secs(3),
        warm_up: Duration::from_secs(1),
        is_quick: true,
    };

    /// Selects the size of a data set.
    pub fn pick_size(&self, full: usize, quick: usize) -> usize {
        if self.is_quick { quick } else { full }
    }
}
