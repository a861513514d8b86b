//! One budget of bytes for everything that clients make a process hold: bodies that arrive, answers that leave, and what
//! each request costs by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// All of it together, in bytes.
pub const MAX_BYTES_IN_FLIGHT: usize = 96 << 20;
/// What large bodies leave to requests that are small.
const SMALL_RESERVE: usize = 32 << 20;
/// What health and readiness have beyond all others.
const PROBE_RESERVE: usize = 8 << 20;
/// What a request costs beside its body: its task, its stream, its buffers.
pub(super) const REQUEST_COST: usize = 32 << 10;
/// A body is small up to here.
pub(super) const SMALL_BODY: usize = 64 << 10;

/// Who asks for a part of the budget; the more needed, the later refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// What is beyond [`SMALL_BODY`].
    Large,
    /// A request, and the beginning of its body.
    Small,
    /// A request of a probe.
    Probe,
}

/// The budget of a process; clones share it.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    used: AtomicUsize,
    most: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self::of(MAX_BYTES_IN_FLIGHT)
    }
}

impl Budget {
    /// Of so many bytes, of which a fifth is kept for small requests.
    pub fn of(most: usize) -> Self {
        Self(Arc::new(Counted { used: AtomicUsize::new(0), most }))
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Takes so many bytes, if the share has them.
    pub(super) fn take(&self, bytes: usize, share: Share) -> bool {
        let most = match share {
            Share::Large => self.0.most - SMALL_RESERVE.min(self.0.most / 5),
            Share::Small => self.0.most,
            Share::Probe => self.0.most + PROBE_RESERVE,
        };
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= most);
        let taken = self.0.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if !taken {
            metrics::counter!("requests_overloaded_total").increment(1);
        }
        taken
    }

    /// Counts bytes that are there already and cannot be refused any more: the next request is refused instead.
    pub(super) fn add(&self, bytes: usize) {
        self.0.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives bytes back.
    pub(super) fn give_back(&self, bytes: usize) {
        self.0.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether an answer of so many bytes fits.
    pub(super) fn has_room_for(&self, bytes: usize) -> bool {
        self.used().saturating_add(bytes) <= self.0.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bodies_leave_room_for_small_requests_and_those_for_probes() {
        let budget = Budget::of(1000);
        assert!(budget.take(800, Share::Large));
        assert!(!budget.take(1, Share::Large));
        assert!(budget.take(200, Share::Small));
        assert!(!budget.take(1, Share::Small));
        assert!(budget.take(1, Share::Probe));
        budget.give_back(1001);
        assert_eq!(budget.used(), 0);
    }
}
