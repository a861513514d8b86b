//! Accounting of one request, from the end of its head until the last byte of the response is
//! written to the socket: its bytes in the budget and its connection's activity.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::activity::ConnectionActivity;
use super::budget::{BudgetShare, ByteBudget, MAX_SMALL_BODY_BYTES, REQUEST_COST_BYTES};
use super::client_limits::ClientPermit;
use crate::error::{ApiError, ErrorCode};

/// A request in flight, shared by its body, its response and the response's unsent parts. Dropping
/// the last reference ends it.
#[derive(Debug)]
pub(super) struct InFlightRequest {
    activity: Arc<ConnectionActivity>,
    budget: ByteBudget,
    /// Budget share of the request and of a small body.
    share: BudgetShare,
    taken_bytes: AtomicUsize,
    /// Counts the request among those of its client.
    client_permit: OnceLock<ClientPermit>,
}

impl InFlightRequest {
    pub(super) fn start(
        activity: Arc<ConnectionActivity>,
        budget: ByteBudget,
        is_probe: bool,
    ) -> Arc<Self> {
        activity.begin_request();
        let share = if is_probe { BudgetShare::Probe } else { BudgetShare::Small };
        Arc::new(Self {
            activity,
            budget,
            share,
            taken_bytes: AtomicUsize::new(0),
            client_permit: OnceLock::new(),
        })
    }

    /// Admits the request to the budget, or rejects it as overloaded.
    pub(super) fn admit(&self) -> Result<(), ApiError> {
        self.take_bytes(REQUEST_COST_BYTES, self.share)
    }

    /// Whether this is a probe, which must be answered even under overload.
    pub(super) fn is_probe(&self) -> bool {
        self.share == BudgetShare::Probe
    }

    /// Keeps the client's permit until the request has ended.
    pub(super) fn hold_permit(&self, permit: ClientPermit) {
        // A request has one permit.
        let _ = self.client_permit.set(permit);
    }

    /// Reserves bytes for the body, which has reserved `held_bytes` already.
    pub(super) fn take_for_body(&self, bytes: usize, held_bytes: usize) -> Result<(), ApiError> {
        let small = held_bytes.saturating_add(bytes) <= MAX_SMALL_BODY_BYTES;
        self.take_bytes(bytes, if small { self.share } else { BudgetShare::Large })
    }

    fn take_bytes(&self, bytes: usize, share: BudgetShare) -> Result<(), ApiError> {
        if !self.budget.take_bytes(bytes, share) {
            let message =
                "the service holds as many bytes of requests and answers as it may: try again soon";
            return Err(ApiError::new(ErrorCode::Overloaded, message));
        }
        self.taken_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Adds an allocated response to the budget.
    pub(super) fn add_bytes(&self, bytes: usize) {
        self.budget.add_bytes(bytes);
        self.taken_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn release_bytes(&self, bytes: usize) {
        self.budget.release_bytes(bytes);
        self.taken_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn has_room_for(&self, bytes: usize) -> bool {
        self.budget.has_room_for(bytes)
    }

    /// Wraps a part of the response to track when it has been written.
    pub(super) fn track_part(self: &Arc<Self>, part: Bytes) -> Bytes {
        self.activity.begin_sending();
        Bytes::from_owner(TrackedPart { part, request: Arc::clone(self) })
    }
}

impl Drop for InFlightRequest {
    fn drop(&mut self) {
        self.budget.release_bytes(*self.taken_bytes.get_mut());
        self.activity.end_request();
    }
}

struct TrackedPart {
    part: Bytes,
    request: Arc<InFlightRequest>,
}

impl AsRef<[u8]> for TrackedPart {
    fn as_ref(&self) -> &[u8] {
        &self.part
    }
}

impl Drop for TrackedPart {
    fn drop(&mut self) {
        self.request.activity.end_sending();
    }
}
