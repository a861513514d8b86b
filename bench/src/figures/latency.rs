//! Latency histograms: microseconds, three significant digits.
//!
//! A closed-loop client records the duration of each call; the next call starts after it, so there
//! is no hidden waiting. A client with a fixed rate records from the time at which a call was
//! *due*, so that a stall counts for every call it delays (no coordinated omission).

use std::time::Duration;

use anyhow::Context as _;
use hdrhistogram::Histogram;

/// Latencies of one window.
#[derive(Debug, Clone)]
pub struct LatencyHistogram(Histogram<u64>);

impl LatencyHistogram {
    /// Range from a microsecond to ten minutes.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, 600_000_000, 3).context("a histogram")?))
    }

    /// Records a latency; longer than ten minutes counts as ten minutes.
    pub fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    /// Adds the latencies of another histogram.
    pub fn add(&mut self, other: &Self) {
        // Fails only for different bounds; these are equal.
        let _ = self.0.add(&other.0);
    }

    /// The quantile `fraction` (0 to 1) in milliseconds; 0 if the histogram is empty.
    pub fn quantile_ms(&self, fraction: f64) -> f64 {
        if self.0.is_empty() { 0.0 } else { self.0.value_at_quantile(fraction) as f64 / 1000.0 }
    }

    /// Number of recorded latencies.
    pub fn count(&self) -> u64 {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_three_digits() {
        let mut latency = LatencyHistogram::new().unwrap();
        assert!(latency.quantile_ms(0.5) == 0.0);
        for n in 1..=1000 {
            latency.record(Duration::from_micros(n * 10));
        }
        assert!((latency.quantile_ms(0.5) - 5.0).abs() < 0.01);
        assert!((latency.quantile_ms(0.99) - 9.9).abs() < 0.02);
        assert_eq!(latency.count(), 1000);
    }

    #[test]
    fn what_is_too_long_counts_as_the_longest() {
        let mut latency = LatencyHistogram::new().unwrap();
        latency.record(Duration::from_secs(100_000));
        assert!((latency.quantile_ms(1.0) - 600_000.0).abs() < 1000.0);
    }
}
