//! What one connection is doing, and from that whether it may stay.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::limits::Limits;

/// A connection that was asked to end and has no request has so long for it.
const GRACE: Duration = Duration::from_millis(500);

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds since some moment before the first connection; never 0, which means "not".
pub(super) fn now() -> u64 {
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
}

/// What is spoken on a connection, as far as its first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoken {
    /// Too few bytes so far.
    Unknown,
    /// HTTP/1.
    Http1,
    /// HTTP/2: its preface is there.
    Http2,
}

/// What is to be done with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It stays; to be looked at again after this time.
    Stays(Duration),
    /// What it has begun is finished, and nothing new.
    Ends,
    /// It is closed at once.
    Cut,
}

/// What a connection is doing. Written by whoever reads, serves and writes; judged by the connection's task.
#[derive(Debug)]
pub(super) struct Activity {
    opened: u64,
    spoken: AtomicU8,
    /// Requests from their heads' end until the last byte of their answers is with the socket.
    requests: AtomicUsize,
    /// Since when there is no request.
    idle_since: AtomicU64,
    /// When the first byte came since there is no request; 0: none has.
    head_since: AtomicU64,
    /// Whether a request ever came.
    has_served: AtomicBool,
    /// Parts of answers that are not with the socket.
    unsent: AtomicUsize,
    /// When one of them last began or ended to wait.
    sent_at: AtomicU64,
    /// Wakes the connection's task: another connection needs its place.
    pub(super) evicted: Notify,
}

impl Activity {
    pub(super) fn begin() -> Self {
        let opened = now();
        Self {
            opened,
            spoken: AtomicU8::new(Spoken::Unknown as u8),
            requests: AtomicUsize::new(0),
            idle_since: AtomicU64::new(opened),
            head_since: AtomicU64::new(0),
            has_served: AtomicBool::new(false),
            unsent: AtomicUsize::new(0),
            sent_at: AtomicU64::new(opened),
            evicted: Notify::new(),
        }
    }

    pub(super) fn speaks(&self, spoken: Spoken) {
        self.spoken.store(spoken as u8, Ordering::Relaxed);
    }

    pub(super) fn spoken(&self) -> Spoken {
        match self.spoken.load(Ordering::Relaxed) {
            1 => Spoken::Http1,
            2 => Spoken::Http2,
            _ => Spoken::Unknown,
        }
    }

    /// Bytes were read.
    pub(super) fn received(&self) {
        if self.requests.load(Ordering::Relaxed) == 0 && self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(now(), Ordering::Relaxed);
        }
    }

    pub(super) fn request_begins(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.head_since.store(0, Ordering::Relaxed);
        self.has_served.store(true, Ordering::Relaxed);
    }

    pub(super) fn request_ends(&self) {
        self.idle_since.store(now(), Ordering::Relaxed);
        self.requests.fetch_sub(1, Ordering::Release);
    }

    pub(super) fn sending_begins(&self) {
        if self.unsent.fetch_add(1, Ordering::Relaxed) == 0 {
            self.sent_at.store(now(), Ordering::Relaxed);
        }
    }

    pub(super) fn sending_ends(&self) {
        self.sent_at.store(now(), Ordering::Relaxed);
        self.unsent.fetch_sub(1, Ordering::Relaxed);
    }

    /// Since when the connection could be closed without harm; `None` while it has a request.
    pub(super) fn idle_since(&self) -> Option<u64> {
        (self.requests.load(Ordering::Acquire) == 0).then(|| self.idle_since.load(Ordering::Relaxed))
    }

    /// What is to be done at `now` with a connection, which may have been asked to end at a moment before.
    pub(super) fn judge(&self, now: u64, ending_since: Option<u64>, limits: &Limits) -> Verdict {
        match (self.idle_since(), ending_since) {
            // A request may have been under way when it was asked.
            (Some(idle), Some(asked)) => {
                stays_or(Verdict::Cut, time_left(idle.max(asked), GRACE, now), GRACE)
            }
            (Some(since), None) => self.judge_idle(since, now, limits),
            (None, _) => self.judge_working(ending_since.is_some(), now, limits),
        }
    }

    fn judge_idle(&self, idle_since: u64, now: u64, limits: &Limits) -> Verdict {
        let in_head = match self.spoken() {
            // Pings and acknowledgements are no half head.
            Spoken::Http2 => None,
            _ if !self.has_served.load(Ordering::Relaxed) => Some(self.opened),
            _ => Some(self.head_since.load(Ordering::Relaxed)).filter(|since| *since > 0),
        };
        let for_head = in_head.map(|since| time_left(since, limits.header_timeout, now));
        if for_head.is_some_and(|left| left.is_zero()) {
            return Verdict::Cut;
        }
        let age_left = time_left(self.opened, limits.max_age, now);
        let left = time_left(idle_since, limits.idle_timeout, now).min(age_left);
        // Where no head has begun it may begin at any moment.
        stays_or(Verdict::Ends, left, for_head.unwrap_or(limits.header_timeout))
    }

    fn judge_working(&self, is_ending: bool, now: u64, limits: &Limits) -> Verdict {
        // The request may end at any moment, or its answer begin to leave.
        let again = limits.header_timeout.min(limits.write_timeout).min(limits.idle_timeout);
        let again = if is_ending { again.min(GRACE) } else { again };
        if self.unsent.load(Ordering::Relaxed) > 0 {
            let left = time_left(self.sent_at.load(Ordering::Relaxed), limits.write_timeout, now);
            if left.is_zero() {
                return Verdict::Cut;
            }
        }
        if is_ending {
            return Verdict::Stays(again);
        }
        stays_or(Verdict::Ends, time_left(self.opened, limits.max_age, now), again)
    }
}

/// The verdict if no time is left, else that it stays for what is left, to be looked at again no later than `again`.
fn stays_or(verdict: Verdict, left: Duration, again: Duration) -> Verdict {
    if left.is_zero() { verdict } else { Verdict::Stays(left.min(again)) }
}

fn time_left(since: u64, most: Duration, now: u64) -> Duration {
    most.saturating_sub(Duration::from_millis(now.saturating_sub(since)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { max_age: Duration::from_secs(3600), ..Limits::default() }
    }

    fn after(activity: &Activity, seconds: u64) -> Verdict {
        activity.judge(now() + seconds * 1000, None, &limits())
    }

    #[test]
    fn a_head_must_come_soon() {
        let silent = Activity::begin();
        assert!(matches!(after(&silent, 9), Verdict::Stays(_)));
        assert_eq!(after(&silent, 10), Verdict::Cut);
        let served = Activity::begin();
        served.speaks(Spoken::Http1);
        served.request_begins();
        served.request_ends();
        assert!(matches!(after(&served, 59), Verdict::Stays(_)));
        assert_eq!(after(&served, 60), Verdict::Ends, "idle");
        served.received();
        assert_eq!(after(&served, 10), Verdict::Cut, "half of a second head");
    }

    #[test]
    fn pings_are_no_half_head() {
        let http2 = Activity::begin();
        http2.speaks(Spoken::Http2);
        http2.received();
        assert!(matches!(after(&http2, 59), Verdict::Stays(_)));
        assert_eq!(after(&http2, 60), Verdict::Ends);
    }

    #[test]
    fn a_request_may_take_its_time_but_its_answer_must_be_taken() {
        let busy = Activity::begin();
        busy.request_begins();
        assert!(matches!(after(&busy, 3000), Verdict::Stays(_)));
        assert_eq!(after(&busy, 3600), Verdict::Ends, "its age");
        busy.sending_begins();
        assert!(matches!(after(&busy, 59), Verdict::Stays(_)));
        assert_eq!(after(&busy, 60), Verdict::Cut);
        busy.sending_ends();
        assert!(matches!(after(&busy, 61), Verdict::Stays(_)));
    }

    #[test]
    fn who_was_asked_to_end_may_finish_and_must_read() {
        let asked = Some(now());
        let ending =
            |activity: &Activity, seconds: u64| activity.judge(now() + seconds * 1000, asked, &limits());
        let busy = Activity::begin();
        busy.request_begins();
        assert!(matches!(ending(&busy, 9000), Verdict::Stays(_)));
        busy.sending_begins();
        assert_eq!(ending(&busy, 60), Verdict::Cut);
        busy.sending_ends();
        busy.request_ends();
        assert!(matches!(ending(&busy, 0), Verdict::Stays(_)));
        assert_eq!(ending(&busy, 1), Verdict::Cut);
    }

    #[test]
    fn a_request_that_was_under_way_when_an_idle_connection_was_asked_to_end_is_waited_for() {
        let idle = Activity::begin();
        let asked = now() + 60_000;
        assert!(matches!(idle.judge(asked + 100, Some(asked), &limits()), Verdict::Stays(_)));
        assert_eq!(idle.judge(asked + 500, Some(asked), &limits()), Verdict::Cut);
    }
}
