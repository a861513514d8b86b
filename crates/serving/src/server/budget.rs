//! One byte budget per process for all memory held on behalf of clients: incoming bodies, outgoing
//! responses, and a fixed cost per request.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Default size of the budget in bytes.
pub const MAX_BYTES_IN_FLIGHT: usize = 96 << 20;
/// Maximum reserve for small requests, which large bodies cannot use.
const SMALL_RESERVE_BYTES: usize = 32 << 20;
/// Additional bytes available to probes only.
const PROBE_RESERVE_BYTES: usize = 8 << 20;
/// Memory per request besides the body: task, stream, buffers.
pub(super) const REQUEST_COST_BYTES: usize = 32 << 10;
/// Maximum size of a small body in bytes.
pub(super) const MAX_SMALL_BODY_BYTES: usize = 64 << 10;

/// Priority class of an allocation, from first to last rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BudgetShare {
    /// The part of a body beyond [`MAX_SMALL_BODY_BYTES`].
    Large,
    /// A request and the first part of its body.
    Small,
    /// A health, readiness or metrics request.
    Probe,
}

/// The byte budget of a process; clones share it.
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
    /// A budget of `max_bytes`, of which a fifth, at most 32 MiB, is reserved for small requests.
    pub fn with_max_bytes(max_bytes: usize) -> Self {
        Self(Arc::new(ByteBudgetState { used_bytes: AtomicUsize::new(0), max_bytes }))
    }

    /// Number of bytes in use.
    pub fn used_bytes(&self) -> usize {
        self.0.used_bytes.load(Ordering::Relaxed)
    }

    /// Reserves `bytes`, unless this exceeds the limit of the share.
    pub(super) fn take_bytes(&self, bytes: usize, share: BudgetShare) -> bool {
        let max_bytes = match share {
            BudgetShare::Large => self.0.max_bytes - SMALL_RESERVE_BYTES.min(self.0.max_bytes / 5),
            BudgetShare::Small => self.0.max_bytes,
            BudgetShare::Probe => self.0.max_bytes + PROBE_RESERVE_BYTES,
        };
        let taken = self.0.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|sum| *sum <= max_bytes)
        });
        if taken.is_err() {
            metrics::counter!("requests_overloaded_total").increment(1);
        }
        taken.is_ok()
    }

    /// Adds bytes that are already allocated, even beyond the limit; later
    /// requests are rejected instead.
    pub(super) fn add_bytes(&self, bytes: usize) {
        self.0.used_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns bytes to the budget.
    pub(super) fn release_bytes(&self, bytes: usize) {
        self.0.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether a response of this size fits.
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
