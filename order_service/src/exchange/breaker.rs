//! A circuit breaker that counts connection failures only: what the data manager answers, even with an error, shows
//! that it is there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Consecutive connection failures that open it.
const FAILURES: u32 = 5;
/// How long it stays open at first; doubles with every failed probe.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// How long it stays open at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Whether calls are let through. Clones are the same breaker.
#[derive(Clone, Default)]
pub struct Breaker(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    closed: Notify,
}

#[derive(Default)]
struct State {
    failures: u32,
    pause: Duration,
    /// While it is open: when a probe may go.
    probe_at: Option<Instant>,
}

impl Breaker {
    /// Whether a call may go now. While open, one call in each pause may: the probe.
    pub fn admit(&self) -> bool {
        let mut state = self.state();
        match state.probe_at {
            None => true,
            Some(probe_at) if Instant::now() < probe_at => false,
            Some(_) => {
                // Should the probe never report, the next one goes after another pause.
                state.probe_at = Some(Instant::now() + LONGEST_PAUSE);
                true
            }
        }
    }

    /// A call was answered.
    pub fn connected(&self) {
        let mut state = self.state();
        let was_open = state.probe_at.is_some();
        *state = State::default();
        drop(state);
        if was_open {
            tracing::info!("the data manager is reachable again");
            self.0.closed.notify_waiters();
        }
    }

    /// A call could not be made, or its connection broke.
    pub fn disconnected(&self) {
        let mut state = self.state();
        state.failures += 1;
        if state.failures < FAILURES {
            return;
        }
        if state.probe_at.is_none() {
            tracing::warn!(
                code = "UNAVAILABLE",
                "the data manager cannot be reached: orders wait in the queue"
            );
        }
        state.pause = (state.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        state.probe_at = Some(Instant::now() + state.pause);
    }

    /// Whether calls are held back at present.
    pub fn is_open(&self) -> bool {
        self.state().probe_at.is_some()
    }

    /// Waits until calls are let through, or a probe is due.
    pub async fn may_try(&self) {
        let closed = self.0.closed.notified();
        let probe_at = self.state().probe_at;
        if let Some(probe_at) = probe_at {
            tokio::select! {
                () = closed => {}
                () = tokio::time::sleep_until(probe_at) => {}
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Breaker {
        let breaker = Breaker::default();
        (0..FAILURES).for_each(|_| breaker.disconnected());
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_failures_do_not_open_it() {
        let breaker = Breaker::default();
        (0..FAILURES - 1).for_each(|_| breaker.disconnected());
        assert!(breaker.admit());
        breaker.connected();
        (0..FAILURES - 1).for_each(|_| breaker.disconnected());
        assert!(breaker.admit());
    }

    #[tokio::test(start_paused = true)]
    async fn while_open_one_probe_goes_each_pause_and_no_pause_exceeds_a_second() {
        let breaker = open();
        for _ in 0..10 {
            assert!(!breaker.admit());
            let before = Instant::now();
            breaker.may_try().await;
            assert!(before.elapsed() <= LONGEST_PAUSE);
            assert!(breaker.admit(), "the probe");
            assert!(!breaker.admit(), "only one");
            breaker.disconnected();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answered_probe_closes_it_at_once() {
        let breaker = open();
        let waiting = tokio::spawn({
            let breaker = breaker.clone();
            async move { breaker.may_try().await }
        });
        tokio::task::yield_now().await;
        let before = Instant::now();
        breaker.connected();
        waiting.await.unwrap();
        assert!(breaker.admit() && before.elapsed().is_zero());
    }
}
