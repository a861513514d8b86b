//! Activity of one connection and the timeouts that follow from it.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::limits::ConnectionLimits;

/// Grace period of a connection without requests after the start of its shutdown.
const CLOSE_GRACE_TIMEOUT: Duration = Duration::from_millis(500);

static CLOCK_START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Monotonic milliseconds; never 0, which means "not set".
pub(super) fn now_millis() -> u64 {
    u64::try_from(CLOCK_START.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
}

/// Protocol of a connection, as detected from its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WireProtocol {
    /// Too few bytes received.
    Unknown,
    /// Any start other than the HTTP/2 preface.
    Http1,
    /// The complete HTTP/2 preface was received.
    Http2,
}

/// Next step for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionAction {
    /// Keep it; check again after this time.
    Keep(Duration),
    /// Shut it down gracefully: requests in flight finish.
    Finish,
    /// Close it immediately.
    Close,
}

/// Activity counters of a connection, updated by the socket wrapper, requests and responses;
/// evaluated by the connection's task.
#[derive(Debug)]
pub(super) struct ConnectionActivity {
    opened: u64,
    protocol: AtomicU8,
    /// Requests between the end of the head and the write of the response's last byte.
    request_count: AtomicUsize,
    /// Time of the last request's end, or of the connection's start.
    idle_since: AtomicU64,
    /// Time of the first byte received while no request is in progress; 0: none.
    head_since: AtomicU64,
    /// Whether any request was received.
    has_served: AtomicBool,
    /// Response parts not yet written to the socket.
    unsent_parts: AtomicUsize,
    /// Time when a part was last written, or the first was queued.
    last_sent_at: AtomicU64,
    /// Notified when the connection is evicted in favour of another one.
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

    /// Records that bytes were received.
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

    /// Since when the connection is idle; `None` while it has a request.
    pub(super) fn idle_since(&self) -> Option<u64> {
        (self.request_count.load(Ordering::Acquire) == 0)
            .then(|| self.idle_since.load(Ordering::Relaxed))
    }

    /// The next step at `now`; `ending_since` is the start of the connection's shutdown,
    /// if it has started.
    pub(super) fn next_action(
        &self,
        now: u64,
        ending_since: Option<u64>,
        limits: &ConnectionLimits,
    ) -> ConnectionAction {
        match (self.idle_since(), ending_since) {
            // The client may have sent a request before it received the shutdown.
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
            // HTTP/2 pings and acknowledgements are not an incomplete head.
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
        // Check again within the header timeout, because a head may start at any time.
        keep_or(ConnectionAction::Finish, left, for_head.unwrap_or(limits.header_timeout))
    }

    fn next_busy_action(
        &self,
        is_ending: bool,
        now: u64,
        limits: &ConnectionLimits,
    ) -> ConnectionAction {
        // The request may end or its response start at any time.
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

/// `action` if no time is left; otherwise keep the connection, with the next check after
/// `check_interval` at the latest.
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
