//! What happened since the start, counted: told when the program stops, and what tests of misbehaviour look at.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One count.
#[derive(Debug, Default)]
pub(crate) struct DeliveryCounter(AtomicU64);

impl DeliveryCounter {
    pub(crate) fn add(&self, more: usize) {
        self.0.fetch_add(more as u64, Relaxed);
    }

    /// Adds, and gives the new total when it has passed a power of two: often enough to be told, and never a flood.
    pub(crate) fn add_and_sample(&self, more: usize) -> Option<u64> {
        let before = self.0.fetch_add(more as u64, Relaxed);
        let after = before + more as u64;
        (after.checked_ilog2() != before.checked_ilog2()).then_some(after)
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The counts as they grow; the fields are those of [`DeliveryCounts`].
#[derive(Debug, Default)]
pub(crate) struct DeliveryCounters {
    pub(crate) questions: DeliveryCounter,
    pub(crate) errors: DeliveryCounter,
    pub(crate) dropped: DeliveryCounter,
    pub(crate) duplicated: DeliveryCounter,
    pub(crate) accepted: DeliveryCounter,
    pub(crate) refused: DeliveryCounter,
    pub(crate) failed: DeliveryCounter,
    pub(crate) forgotten: DeliveryCounter,
    pub(crate) overflowed: DeliveryCounter,
}

/// What happened since the start, in orders.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeliveryCounts {
    /// Asked about; an order in a batch counts one.
    pub questions: u64,
    /// Answered `UNAVAILABLE` by `--error-rate`.
    pub errors: u64,
    /// Callbacks not sent by `--drop-callback-rate`.
    pub dropped: u64,
    /// Callbacks sent once more by `--duplicate-callback-rate`.
    pub duplicated: u64,
    /// Callbacks answered `Empty`, duplicates included.
    pub accepted: u64,
    /// Callbacks refused for good, not sent again.
    pub refused: u64,
    /// Tries that failed and may succeed later.
    pub failed: u64,
    /// Callbacks given up after failing for too long, or by a stop.
    pub forgotten: u64,
    /// Callbacks given up because too many were waiting.
    pub overflowed: u64,
}

impl DeliveryCounters {
    pub(crate) fn snapshot(&self) -> DeliveryCounts {
        DeliveryCounts {
            questions: self.questions.get(),
            errors: self.errors.get(),
            dropped: self.dropped.get(),
            duplicated: self.duplicated.get(),
            accepted: self.accepted.get(),
            refused: self.refused.get(),
            failed: self.failed.get(),
            forgotten: self.forgotten.get(),
            overflowed: self.overflowed.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_noted_at_powers_of_two() {
        let counter = DeliveryCounter::default();
        let noted: Vec<u64> = (0..100).filter_map(|_| counter.add_and_sample(1)).collect();
        assert_eq!(noted, [1, 2, 4, 8, 16, 32, 64]);
        assert_eq!(counter.add_and_sample(1000), Some(1100));
    }
}
