//! Circuit breaker that counts connection failures only: any response of the data manager, even an
//! error, shows that it is reachable.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Consecutive connection failures that open the breaker.
const MAX_CONNECTION_FAILURES: u32 = 5;
/// Open time until the first probe; doubles with every failed probe.
const MIN_PROBE_INTERVAL: Duration = Duration::from_millis(100);
/// Maximum time between probes.
const MAX_PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Handle of the breaker; clones share its state.
#[derive(Clone, Default)]
pub struct CircuitBreaker(Arc<CircuitBreakerInner>);

#[derive(Default)]
struct CircuitBreakerInner {
    state: Mutex<CircuitBreakerState>,
    closed: Notify,
}

#[derive(Default)]
struct CircuitBreakerState {
    failures: u32,
    probe_interval: Duration,
    /// Time of the next probe; `None` while closed.
    probe_at: Option<Instant>,
}

impl CircuitBreaker {
    /// Whether a call may be made now. While open, one call per probe interval is
    /// let through: the probe.
    pub fn admit_call(&self) -> bool {
        let mut state = self.lock_state();
        match state.probe_at {
            None => true,
            Some(probe_at) if Instant::now() < probe_at => false,
            Some(_) => {
                // If the probe never reports, the next one follows after this interval.
                state.probe_at = Some(Instant::now() + MAX_PROBE_INTERVAL);
                true
            }
        }
    }

    /// Records a response: closes the breaker.
    pub fn record_success(&self) {
        let mut state = self.lock_state();
        let was_open = state.probe_at.is_some();
        *state = CircuitBreakerState::default();
        drop(state);
        if was_open {
            tracing::info!("the data manager is reachable again");
            self.0.closed.notify_waiters();
        }
    }

    /// Records a failed or broken connection.
    pub fn record_failure(&self) {
        let mut state = self.lock_state();
        state.failures += 1;
        if state.failures < MAX_CONNECTION_FAILURES {
            return;
        }
        if state.probe_at.is_none() {
            tracing::warn!(
                code = "UNAVAILABLE",
                "the data manager cannot be reached: orders wait in the queue"
            );
        }
        state.probe_interval =
            (state.probe_interval * 2).clamp(MIN_PROBE_INTERVAL, MAX_PROBE_INTERVAL);
        state.probe_at = Some(Instant::now() + state.probe_interval);
    }

    /// Whether the breaker is open.
    pub fn is_open(&self) -> bool {
        self.lock_state().probe_at.is_some()
    }

    /// Waits until the breaker is closed or a probe is due.
    pub async fn wait_until_callable(&self) {
        let closed = self.0.closed.notified();
        let probe_at = self.lock_state().probe_at;
        if let Some(probe_at) = probe_at {
            tokio::select! {
                () = closed => {}
                () = tokio::time::sleep_until(probe_at) => {}
            }
        }
    }

    fn lock_state(&self) -> MutexGuard<'_, CircuitBreakerState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_breaker() -> CircuitBreaker {
        let breaker = CircuitBreaker::default();
        (0..MAX_CONNECTION_FAILURES).for_each(|_| breaker.record_failure());
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_failures_do_not_open_it() {
        let breaker = CircuitBreaker::default();
        (0..MAX_CONNECTION_FAILURES - 1).for_each(|_| breaker.record_failure());
        assert!(breaker.admit_call());
        breaker.record_success();
        (0..MAX_CONNECTION_FAILURES - 1).for_each(|_| breaker.record_failure());
        assert!(breaker.admit_call());
    }

    #[tokio::test(start_paused = true)]
    async fn while_open_one_probe_goes_each_pause_and_no_pause_exceeds_a_second() {
        let breaker = open_breaker();
        for _ in 0..10 {
            assert!(!breaker.admit_call());
            let before = Instant::now();
            breaker.wait_until_callable().await;
            assert!(before.elapsed() <= MAX_PROBE_INTERVAL);
            assert!(breaker.admit_call(), "the probe");
            assert!(!breaker.admit_call(), "only one");
            breaker.record_failure();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answered_probe_closes_it_at_once() {
        let breaker = open_breaker();
        let waiting = tokio::spawn({
            let breaker = breaker.clone();
            async move { breaker.wait_until_callable().await }
        });
        tokio::task::yield_now().await;
        let before = Instant::now();
        breaker.record_success();
        waiting.await.unwrap();
        assert!(breaker.admit_call() && before.elapsed().is_zero());
    }
}
