//! How much is spent on each figure.

use std::time::Duration;

/// The windows of each figure, and how much data the rows work on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// Windows of each figure, of which the median counts.
    pub windows: usize,
    /// How long each is.
    pub window: Duration,
    /// How long a load runs before the first.
    pub warm_up: Duration,
    /// Small data sets: such a run shows that everything works, and no more than a tendency.
    pub quick: bool,
}

impl Effort {
    /// What verdicts are given on.
    pub const FULL: Self = Self {
        windows: 3,
        window: Duration::from_secs(5),
        warm_up: Duration::from_secs(2),
        quick: false,
    };

    /// For daily work.
    pub const QUICK: Self = Self {
        windows: 1,
        window: Duration::from_secs(3),
        warm_up: Duration::from_secs(1),
        quick: true,
    };

    /// The size of a data set.
    pub fn size(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }
}
