//! Exponential backoff with jitter.

use std::time::Duration;

/// Backoff whose delay doubles with every failure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// Delay after the first failure.
    pub first_delay: Duration,
    /// Maximum delay, before jitter.
    pub max_delay: Duration,
    /// Jitter as a fraction of the delay, applied in both directions.
    pub jitter: f64,
}

impl Backoff {
    /// Delay after `failures` failed attempts (1 or more); `random_fraction` in 0..1 selects the
    /// point within the jitter range.
    pub fn delay_after(&self, failures: u32, random_fraction: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(32);
        let wait = self
            .first_delay
            .saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX))
            .min(self.max_delay);
        wait.mul_f64(1.0 + self.jitter * (2.0 * random_fraction - 1.0))
    }

    /// [`Backoff::delay_after`] with a random fraction.
    pub fn random_delay(&self, failures: u32) -> Duration {
        self.delay_after(failures, rand::random())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BACKOFF: Backoff = Backoff {
        first_delay: Duration::from_millis(200),
        max_delay: Duration::from_secs(60),
        jitter: 0.2,
    };

    #[test]
    fn doubles_up_to_the_limit() {
        let waits: Vec<u128> = (1..=11).map(|n| BACKOFF.delay_after(n, 0.5).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000]);
    }

    proptest! {
        #[test]
        fn stays_within_the_jitter(failures in any::<u32>(), luck in 0.0..1.0) {
            let (exact, wait) = (BACKOFF.delay_after(failures, 0.5).as_secs_f64(), BACKOFF.delay_after(failures, luck).as_secs_f64());
            prop_assert!(wait >= exact * 0.799 && wait <= exact * 1.201, "{wait} against {exact}");
        }
    }
}
