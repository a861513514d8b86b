//! Activity of one connection and the timeouts that follow from it.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::limits::ConnectionLimits;

/// A connection that was asked to end and has no request has so long for it.
const CLOSE_GRACE_TIMEOUT: Duration = Duration::from_millis(500);

static CLOCK_START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds since some moment before the first connection; never 0, which means "not".
pub(super) fn now_millis() -> u64 {
    u64::try_from(CLOCK_START.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
}

/// What is spoken on a connection, as far as its first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WireProtocol {
    /// Too few bytes so far.
    Unknown,
    /// HTTP/1.
    Http1,
    /// HTTP/2: its preface is there.
    Http2,
}

/// What is to be done with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionAction {
    /// It stays; to be looked at again after this time.
    Keep(Duration),
    /// What it has begun is finished, and nothing new.
    Finish,
    /// It is closed at once.
    Close,
}

/// What a connection is doing. Written by whoever reads, serves and writes; judged by the connection's task.
#[derive(Debug)]
pub(super) struct ConnectionActivity {
    opened: u64,
    protocol: AtomicU8,
    /// Requests from their heads' end until the last byte of their answers is with the socket.
    request_count: AtomicUsize,
    /// Since when there is no request.
    idle_since: AtomicU64,
    /// When the first byte came since there is no request; 0: none has.
    head_since: AtomicU64,
    /// Whether a request ever came.
    has_served: AtomicBool,
    /// Parts of answers that are not with the socket.
    unsent_parts: AtomicUsize,
    /// When one of them last began or ended to wait.
    last_sent_at: AtomicU64,
    /// Wakes the connection's task: another connection needs its place.
    pub(super) evicted: Notify,
}

impl ConnectionActivity {
    pub(super) fn start() -> Self {
        let opened = now_millis();
        Self {
            opened,
            protocol: AtomicU8::new(WireProtocol::Unknown as u8),
            request_count: AtomicUsize::new(0),
            idle_since: AtomicU64::new(opened),
            head_since: AtomicU64::new(0),
            has_served: AtomicBool::new(false),
            unsent_parts: AtomicUsize::new(0),
            last_sent_at: AtomicU64::new(opened),
            evicted: Notify::new(),
        }
    }

    pub(super) fn set_protocol(&self, protocol: WireProtocol) {
        self.protocol.store(protocol as u8, Ordering::Relaxed);
    }

    pub(super) fn protocol(&self) -> WireProtocol {
        match self.protocol.load(Ordering::Relaxed) {
            1 => WireProtocol::Http1,
            2 => WireProtocol::Http2,
            _ => WireProtocol::Unknown,
        }
    }

    /// Bytes were read.
    pub(super) fn mark_received(&self) {
        if self.request_count.load(Ordering::Relaxed) == 0
            && self.head_since.load(Ordering::Relaxed) == 0
        {
            self.head_since.store(now_millis(), Ordering::Relaxed);
        }
    }

    pub(super) fn begin_request(&self) {
        self.request_count.fetch_add(1, Ordering::Relaxed);
        self.head_since.store(0, Ordering::Relaxed);
        self.has_served.store(true, Ordering::Relaxed);
    }

    pub(super) fn end_request(&self) {
        self.idle_since.store(now_millis(), Ordering::Relaxed);
        self.request_count.fetch_sub(1, Ordering::Release);
    }

    pub(super) fn begin_sending(&self) {
        if self.unsent_parts.fetch_add(1, Ordering::Relaxed) == 0 {
            self.last_sent_at.store(now_millis(), Ordering::Relaxed);
        }
    }

    pub(super) fn end_sending(&self) {
        self.last_sent_at.store(now_millis(), Ordering::Relaxed);
        self.unsent_parts.fetch_sub(1, Ordering::Relaxed);
    }

    /// Since when the connection could be closed without harm; `None` while it has a request.
    pub(super) fn idle_since(&self) -> Option<u64> {
        (self.request_count.load(Ordering::Acquire) == 0)
            .then(|| self.idle_since.load(Ordering::Relaxed))
    }

    /// What is to be done at `now_millis` with a connection, which may have been asked to end at a moment before.
    pub(super) fn next_action(
        &self,
        now: u64,
        ending_since: Option<u64>,
        limits: &ConnectionLimits,
    ) -> ConnectionAction {
        match (self.idle_since(), ending_since) {
            // A request may have been under way when it was asked.
            (Some(idle), Some(asked)) => keep_or(
                ConnectionAction::Close,
                time_left(idle.max(asked), CLOSE_GRACE_TIMEOUT, now),
                CLOSE_GRACE_TIMEOUT,
            ),
            (Some(since), None) => self.next_idle_action(since, now, limits),
            (None, _) => self.next_busy_action(ending_since.is_some(), now, limits),
        }
    }

    fn next_idle_action(
        &self,
        idle_since: u64,
        now: u64,
        limits: &ConnectionLimits,
    ) -> ConnectionAction {
        let in_head = match self.protocol() {
            // Pings and acknowledgements are no half head.
            WireProtocol::Http2 => None,
            _ if !self.has_served.load(Ordering::Relaxed) => Some(self.opened),
            _ => Some(self.head_since.load(Ordering::Relaxed)).filter(|since| *since > 0),
        };
        let for_head = in_head.map(|since| time_left(since, limits.header_timeout, now));
        if for_head.is_some_and(|left| left.is_zero()) {
            return ConnectionAction::Close;
        }
        let age_left = time_left(self.opened, limits.max_age, now);
        let left = time_left(idle_since, limits.idle_timeout, now).min(age_left);
        // Where no head has begun it may begin at any moment.
        keep_or(ConnectionAction::Finish, left, for_head.unwrap_or(limits.header_timeout))
    }

    fn next_busy_action(
        &self,
        is_ending: bool,
        now: u64,
        limits: &ConnectionLimits,
    ) -> ConnectionAction {
        // The request may end at any moment, or its answer begin to leave.
        let check_interval =
            limits.header_timeout.min(limits.write_timeout).min(limits.idle_timeout);
        let check_interval =
            if is_ending { check_interval.min(CLOSE_GRACE_TIMEOUT) } else { check_interval };
        if self.unsent_parts.load(Ordering::Relaxed) > 0 {
            let left =
                time_left(self.last_sent_at.load(Ordering::Relaxed), limits.write_timeout, now);
            if left.is_zero() {
                return ConnectionAction::Close;
            }
        }
        if is_ending {
            return ConnectionAction::Keep(check_interval);
        }
        keep_or(
            ConnectionAction::Finish,
            time_left(self.opened, limits.max_age, now),
            check_interval,
        )
    }
}

/// The verdict if no time is left, else that it stays for what is left, to be looked at again no later than `check_interval`.
fn keep_or(action: ConnectionAction, left: Duration, check_interval: Duration) -> ConnectionAction {
    if left.is_zero() { action } else { ConnectionAction::Keep(left.min(check_interval)) }
}

fn time_left(since: u64, limit: Duration, now: u64) -> Duration {
    limit.saturating_sub(Duration::from_millis(now.saturating_sub(since)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test_limits() -> ConnectionLimits {
        ConnectionLimits { max_age: Duration::from_secs(3600), ..ConnectionLimits::default() }
    }

    fn action_after(activity: &ConnectionActivity, seconds: u64) -> ConnectionAction {
        activity.next_action(now_millis() + seconds * 1000, None, &test_limits())
    }

    #[test]
    fn a_head_must_come_soon() {
        let silent = ConnectionActivity::start();
        assert!(matches!(action_after(&silent, 9), ConnectionAction::Keep(_)));
        assert_eq!(action_after(&silent, 10), ConnectionAction::Close);
        let served = ConnectionActivity::start();
        served.set_protocol(WireProtocol::Http1);
        served.begin_request();
        served.end_request();
        assert!(matches!(action_after(&served, 59), ConnectionAction::Keep(_)));
        assert_eq!(action_after(&served, 60), ConnectionAction::Finish, "idle");
        served.mark_received();
        assert_eq!(action_after(&served, 10), ConnectionAction::Close, "half of a second head");
    }

    #[test]
    fn pings_are_no_half_head() {
        let http2 = ConnectionActivity::start();
        http2.set_protocol(WireProtocol::Http2);
        http2.mark_received();
        assert!(matches!(action_after(&http2, 59), ConnectionAction::Keep(_)));
        assert_eq!(action_after(&http2, 60), ConnectionAction::Finish);
    }

    #[test]
    fn a_request_may_take_its_time_but_its_answer_must_be_taken() {
        let busy = ConnectionActivity::start();
        busy.begin_request();
        assert!(matches!(action_after(&busy, 3000), ConnectionAction::Keep(_)));
        assert_eq!(action_after(&busy, 3600), ConnectionAction::Finish, "its age");
        busy.begin_sending();
        assert!(matches!(action_after(&busy, 59), ConnectionAction::Keep(_)));
        assert_eq!(action_after(&busy, 60), ConnectionAction::Close);
        busy.end_sending();
        assert!(matches!(action_after(&busy, 61), ConnectionAction::Keep(_)));
    }

    #[test]
    fn who_was_asked_to_end_may_finish_and_must_read() {
        let asked = Some(now_millis());
        let ending = |activity: &ConnectionActivity, seconds: u64| {
            activity.next_action(now_millis() + seconds * 1000, asked, &test_limits())
        };
        let busy = ConnectionActivity::start();
        busy.begin_request();
        assert!(matches!(ending(&busy, 9000), ConnectionAction::Keep(_)));
        busy.begin_sending();
        assert_eq!(ending(&busy, 60), ConnectionAction::Close);
        busy.end_sending();
        busy.end_request();
        assert!(matches!(ending(&busy, 0), ConnectionAction::Keep(_)));
        assert_eq!(ending(&busy, 1), ConnectionAction::Close);
    }

    #[test]
    fn a_request_that_was_under_way_when_an_idle_connection_was_asked_to_end_is_waited_for() {
        let idle = ConnectionActivity::start();
        let asked = now_millis() + 60_000;
        assert!(matches!(
            idle.next_action(asked + 100, Some(asked), &test_limits()),
            ConnectionAction::Keep(_)
        ));
        assert_eq!(
            idle.next_action(asked + 500, Some(asked), &test_limits()),
            ConnectionAction::Close
        );
    }
}
