//! One budget of bytes for everything that clients make a process hold: bodies that arrive, answers that leave, and what
//! each request costs by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// All of it together, in bytes.
pub const MAX_BYTES_IN_FLIGHT: usize = 96 << 20;
/// What large bodies leave to requests that are small.
const SMALL_RESERVE_BYTES: usize = 32 << 20;
/// What health and readiness have beyond all others.
const PROBE_RESERVE_BYTES: usize = 8 << 20;
/// What a request costs beside its body: its task, its stream, its buffers.
pub(super) const REQUEST_COST_BYTES: usize = 32 << 10;
/// A body is small up to here.
pub(super) const MAX_SMALL_BODY_BYTES: usize = 64 << 10;

/// Who asks for a part of the budget; the more needed, the later refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BudgetShare {
    /// What is beyond [`MAX_SMALL_BODY_BYTES`].
    Large,
    /// A request, and the beginning of its body.
    Small,
    /// A request of a probe.
    Probe,
}

/// The budget of a process; clones share it.
#[derive(Debug, Clone)]
pub struct ByteBudget(Arc<ByteBudgetState>);

#[derive(Debug)]
struct ByteBudgetState {
    used_bytes: AtomicUsize,
    max_bytes: usize,
}

impl Default for ByteBudget {
    fn default() -> Self {
        Self::with_max_bytes(MAX_BYTES_IN_FLIGHT)
    }
}

impl ByteBudget {
    /// Of so many bytes, of which a fifth is kept for small requests.
    pub fn with_max_bytes(max_bytes: usize) -> Self {
        Self(Arc::new(ByteBudgetState { used_bytes: AtomicUsize::new(0), max_bytes }))
    }

    /// Bytes in use.
    pub fn used_bytes(&self) -> usize {
        self.0.used_bytes.load(Ordering::Relaxed)
    }

    /// Takes so many bytes, if the share has them.
    pub(super) fn take_bytes(&self, bytes: usize, share: BudgetShare) -> bool {
        let max_bytes = match share {
            BudgetShare::Large => self.0.max_bytes - SMALL_RESERVE_BYTES.min(self.0.max_bytes / 5),
            BudgetShare::Small => self.0.max_bytes,
            BudgetShare::Probe => self.0.max_bytes + PROBE_RESERVE_BYTES,
        };
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= max_bytes);
        let taken =
            self.0.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if !taken {
            metrics::counter!("requests_overloaded_total").increment(1);
        }
        taken
    }

    /// Counts bytes that are there already and cannot be refused any more: the next request is refused instead.
    pub(super) fn add_bytes(&self, bytes: usize) {
        self.0.used_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives bytes back.
    pub(super) fn release_bytes(&self, bytes: usize) {
        self.0.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether an answer of so many bytes fits.
    pub(super) fn has_room_for(&self, bytes: usize) -> bool {
        self.used_bytes().saturating_add(bytes) <= self.0.max_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bodies_leave_room_for_small_requests_and_those_for_probes() {
        let budget = ByteBudget::with_max_bytes(1000);
        assert!(budget.take_bytes(800, BudgetShare::Large));
        assert!(!budget.take_bytes(1, BudgetShare::Large));
        assert!(budget.take_bytes(200, BudgetShare::Small));
        assert!(!budget.take_bytes(1, BudgetShare::Small));
        assert!(budget.take_bytes(1, BudgetShare::Probe));
        budget.release_bytes(1001);
        assert_eq!(budget.used_bytes(), 0);
    }
}
