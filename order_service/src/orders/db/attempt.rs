//! Order attempts: their source, their outcomes and the notices of these.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use queue::Job;
use store::{FairTurn, Lease};
use uuid::Uuid;

use super::{OrderAdmission, OrderData, OrderState, PostingContext};
use crate::orders::{NewOrder, OrderId, ProductId};

/// An order held by this process under a lane.
#[derive(Debug, Clone)]
pub struct OrderAttempt {
    /// Order id; any int32.
    pub order_id: OrderId,
    /// Product id, as accepted.
    pub product_id: ProductId,
    /// State reached so far, possibly ahead of the stored one.
    pub state: OrderState,
    /// Storage and pickup point, after their commit.
    pub data: Option<OrderData>,
    /// Time and rules version of its postings, once the data is stored.
    pub posting_context: Option<PostingContext>,
    /// Counted attempts before this one.
    pub attempts: u32,
    /// Time when it reached [`OrderState::ProcessStarted`].
    pub started_at: Option<DateTime<Utc>>,
    /// Time when it reached [`OrderState::FinishedExternalInteraction`].
    pub external_at: Option<DateTime<Utc>>,
    /// Source of the attempt: a request or the retry queue.
    pub origin: OrderAttemptOrigin,
    /// Turn of its request in the fair queues.
    pub turn: FairTurn,
    /// Permit for an order in flight; released on drop.
    pub admission: Option<Arc<OrderAdmission>>,
}

impl OrderAttempt {
    pub(super) fn first_attempt(
        order: NewOrder,
        batch: Arc<AcceptedBatch>,
        admission: Arc<OrderAdmission>,
    ) -> Self {
        Self {
            order_id: order.order_id,
            product_id: order.product_id,
            state: OrderState::Initialized,
            data: None,
            posting_context: None,
            attempts: 0,
            started_at: None,
            external_at: None,
            origin: OrderAttemptOrigin::Accepted(batch),
            turn: admission.turn,
            admission: Some(admission),
        }
    }
}

/// Source of an attempt; decides how its outcome is written.
#[derive(Debug, Clone)]
pub enum OrderAttemptOrigin {
    /// Accepted by this process in this batch.
    Accepted(Arc<AcceptedBatch>),
    /// Claimed from the retry queue.
    Retried(Box<Job>),
}

impl OrderAttemptOrigin {
    /// The lane that gives this process the right to the order.
    pub fn lane(&self) -> &Arc<Lease> {
        match self {
            OrderAttemptOrigin::Accepted(batch) => &batch.lane,
            OrderAttemptOrigin::Retried(job) => &job.lane,
        }
    }
}

/// The new orders of one accept commit, held in memory.
#[derive(Debug)]
pub struct AcceptedBatch {
    /// Primary key of its row in `accepted_batches`.
    pub id: Uuid,
    /// The lane the orders were accepted into.
    pub lane: Arc<Lease>,
    /// Orders that have no written outcome yet.
    remaining: AtomicUsize,
    /// Whether an order was left to the lane's adopter or to a later requeue: then
    /// the row must stay.
    pub(super) has_left_orders: AtomicBool,
}

impl AcceptedBatch {
    pub(super) fn new(id: Uuid, lane: Arc<Lease>, orders: usize) -> Arc<Self> {
        Arc::new(Self {
            id,
            lane,
            remaining: AtomicUsize::new(orders),
            has_left_orders: AtomicBool::new(false),
        })
    }

    /// Counts one order as ended; true for the last one.
    pub(super) fn count_out_order(&self) -> bool {
        self.remaining.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

/// Outcome of an attempt; `Failed`, `Deferred` and `Dead` as in the table of [`queue::JobOutcome`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderAttemptOutcome {
    /// All three stages succeeded.
    Finished,
    /// Failed with a retry; the attempt counts.
    Failed {
        /// Error message of the attempt.
        reason: String,
    },
    /// Not possible yet (an unreachable data manager): retried, the attempt does not count.
    Deferred {
        /// Error message of the attempt.
        reason: String,
    },
    /// Failed permanently: no automatic retry.
    Dead {
        /// Error message of the attempt.
        reason: String,
    },
    /// The give-up policy applies: failed permanently, unless the data is stored by now. Then
    /// events may be posted already, and the order is retried.
    GivenUp {
        /// The policy's time limit.
        after: Duration,
        /// Error message of the last attempt.
        reason: String,
    },
}

impl OrderAttemptOutcome {
    /// Whether the order waits for another attempt.
    pub(super) fn is_retried(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Deferred { .. })
    }
}

/// An attempt that has ended, with its outcome.
#[derive(Debug, Clone)]
pub(super) struct EndedAttempt {
    pub(super) attempt: OrderAttempt,
    pub(super) outcome: OrderAttemptOutcome,
}

/// Outcome notice for subscribers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutcomeNotice {
    /// Order id; any int32.
    pub order_id: OrderId,
    /// Storage and pickup point, if known.
    pub data: Option<OrderData>,
    /// Kind of the outcome.
    pub kind: OutcomeKind,
}

/// Kind of an outcome notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutcomeKind {
    /// All stages succeeded.
    Finished,
    /// Failed permanently: no automatic retry.
    OrderFailed,
    /// A counted attempt failed; a retry follows.
    AttemptFailed,
}
