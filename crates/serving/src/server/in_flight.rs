//! One request, from the end of its head until the last byte of its answer is with the socket: what it takes of the
//! budget, and that its connection is at work.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::activity::Activity;
use super::budget::{Budget, REQUEST_COST, SMALL_BODY, Share};
use crate::error::{ApiError, Code};

/// A request in flight. Whoever still needs it holds it: the body that arrives, the answer, its parts that are being sent.
#[derive(Debug)]
pub(super) struct InFlight {
    activity: Arc<Activity>,
    budget: Budget,
    /// The share that it and a small body of it have.
    share: Share,
    taken: AtomicUsize,
}

impl InFlight {
    pub(super) fn begin(activity: Arc<Activity>, budget: Budget, is_probe: bool) -> Arc<Self> {
        activity.request_begins();
        let share = if is_probe { Share::Probe } else { Share::Small };
        Arc::new(Self { activity, budget, share, taken: AtomicUsize::new(0) })
    }

    /// Lets it in, or says that there is too much already.
    pub(super) fn admit(&self) -> Result<(), ApiError> {
        self.take(REQUEST_COST, self.share)
    }

    /// Takes room for bytes of its body, of which it holds so many already.
    pub(super) fn take_for_body(&self, bytes: usize, held: usize) -> Result<(), ApiError> {
        let small = held.saturating_add(bytes) <= SMALL_BODY;
        self.take(bytes, if small { self.share } else { Share::Large })
    }

    fn take(&self, bytes: usize, share: Share) -> Result<(), ApiError> {
        if !self.budget.take(bytes, share) {
            let message = "the service holds as many bytes of requests and answers as it may: try again soon";
            return Err(ApiError::new(Code::Overloaded, message));
        }
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Counts an answer that is there already.
    pub(super) fn add(&self, bytes: usize) {
        self.budget.add(bytes);
        self.taken.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.budget.give_back(bytes);
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn has_room_for(&self, bytes: usize) -> bool {
        self.budget.has_room_for(bytes)
    }

    /// A part of its answer, which knows when it is with the socket.
    pub(super) fn sending(self: &Arc<Self>, part: Bytes) -> Bytes {
        self.activity.sending_begins();
        Bytes::from_owner(Sending { part, request: Arc::clone(self) })
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.budget.give_back(*self.taken.get_mut());
        self.activity.request_ends();
    }
}

struct Sending {
    part: Bytes,
    request: Arc<InFlight>,
}

impl AsRef<[u8]> for Sending {
    fn as_ref(&self) -> &[u8] {
        &self.part
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.request.activity.sending_ends();
    }
}
