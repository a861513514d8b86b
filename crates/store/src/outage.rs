//! Rate-limited logging of an outage: at its start, once a minute, and at its end.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Interval of log lines.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct OutageState {
    since: Option<Instant>,
    failures: u64,
    logged_at: Option<Instant>,
    /// Whether a failure was logged and its end was not.
    is_logged: bool,
}

/// State of one dependency that may fail for a while. A flapping dependency is logged
/// once a minute, too.
#[derive(Debug, Default)]
pub struct Outage(Mutex<OutageState>);

impl Outage {
    /// Records a failure; calls `log` with the number of failures so far if a line is due.
    pub fn record_failure(&self, log: impl FnOnce(u64)) {
        let now = Instant::now();
        let failures = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.since.get_or_insert(now);
            state.failures += 1;
            if state.logged_at.is_some_and(|said| now < said + LOG_INTERVAL) {
                return;
            }
            (state.logged_at, state.is_logged) = (Some(now), true);
            state.failures
        };
        log(failures);
    }

    /// Records a success; calls `log` with the duration of the outage if that was logged.
    pub fn record_success(&self, log: impl FnOnce(Duration)) {
        let lasted = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let since = state.since.take();
            state.failures = 0;
            if !std::mem::take(&mut state.is_logged) {
                return;
            }
            since.map(|since| since.elapsed()).unwrap_or_default()
        };
        log(lasted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_said_when_it_begins_once_a_minute_and_when_it_is_over() {
        let (outage, said) = (Outage::default(), Mutex::new(Vec::new()));
        outage.record_success(|_| said.lock().unwrap().push("back".to_owned()));
        for _ in 0..300 {
            outage.record_failure(|failures| said.lock().unwrap().push(failures.to_string()));
            tokio::time::advance(Duration::from_millis(500)).await;
        }
        for _ in 0..3 {
            outage.record_success(|lasted| {
                said.lock().unwrap().push(format!("back after {lasted:?}"))
            });
        }
        assert_eq!(*said.lock().unwrap(), ["1", "121", "241", "back after 150s"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_and_works_in_turn_is_said_once_a_minute() {
        let (outage, said) = (Outage::default(), Mutex::new(0));
        for _ in 0..240 {
            outage.record_failure(|_| *said.lock().unwrap() += 1);
            outage.record_success(|_| *said.lock().unwrap() += 1);
            tokio::time::advance(Duration::from_millis(500)).await;
        }
        assert_eq!(*said.lock().unwrap(), 4);
    }
}
