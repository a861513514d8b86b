//! Counters since the start: logged at the stop, and read by tests.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A monotonic counter.
#[derive(Debug, Default)]
pub(crate) struct DeliveryCounter(AtomicU64);

impl DeliveryCounter {
    pub(crate) fn add(&self, more: usize) {
        self.0.fetch_add(more as u64, Relaxed);
    }

    /// Adds; returns the new total if it passed a power of two, which keeps log lines few.
    pub(crate) fn add_and_sample(&self, more: usize) -> Option<u64> {
        let before = self.0.fetch_add(more as u64, Relaxed);
        let after = before + more as u64;
        (after.checked_ilog2() != before.checked_ilog2()).then_some(after)
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Live counters; the fields are those of [`DeliveryCounts`].
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

/// Snapshot of the counters, in orders.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeliveryCounts {
    /// Orders asked about, also each order of a batch.
    pub questions: u64,
    /// Questions answered `UNAVAILABLE` by `--error-rate`.
    pub errors: u64,
    /// Callbacks not sent by `--drop-callback-rate`.
    pub dropped: u64,
    /// Callbacks sent twice by `--duplicate-callback-rate`.
    pub duplicated: u64,
    /// Callbacks answered `Empty`, duplicates included.
    pub accepted: u64,
    /// Callbacks refused permanently, not retried.
    pub refused: u64,
    /// Attempts that failed transiently.
    pub failed: u64,
    /// Callbacks dropped after `retry_timeout`, or by a stop.
    pub forgotten: u64,
    /// Callbacks dropped because too many were waiting.
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
