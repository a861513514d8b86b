//! Orders in the control database: accepting, callbacks, attempt outcomes, reads and retries.
//!
//! - Shape: the only writer of `orders`, `accepted_batches` and `orphan_callbacks`. Every write of
//!   the order path is a group commit (`store::Coalescer`) over concurrent requests.
//! - Lock order: lane (lease), orders by id within a statement, jobs.
//! - Promise: an accepted order is durable and ends once; the fencing token of its lane guards
//!   every decision but the finish of a first attempt, which is idempotent.

mod accept;
mod adopt;
mod attempt_writer;
mod callback;
mod clock;
mod orphan;
mod pipeline_queue;
mod read;
mod repair;
mod retry;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use queue::{Job, QueueName};
use store::{BatchOptions, FairTurn, Lease};
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

pub use accept::{AcceptError, AcceptedOrders, OrderAcceptor};
pub use adopt::adopt_batches;
pub use attempt_writer::{GiveUpPolicy, OrderAttemptWriter, OutcomeSink};
pub use callback::{
    CALLBACK_CHANNEL, CallbackOutcome, CallbackWriter, DeliverCallback, OrderCallback, OrderData,
    PostingContext, StoredOrderData, parse_callback_notification,
};
pub use clock::DatabaseClock;
pub use orphan::{OrphanCallback, list_orphan_callbacks};
pub use pipeline_queue::{PipelineEntry, PipelineReceiver, PipelineSender, open_pipeline_queue};
pub use read::{Order, OrderListQuery, OrderStateChange, get_order, list_orders, load_orders};
pub use repair::{apply_ledger_data, repost_order, revive_order};
pub use retry::{
    OrderRetryError, count_retryable, retry_order, retry_orders, retry_orders_in_state,
};

/// The retry queue of orders; the job key is the order id.
pub const ORDER_QUEUE: QueueName = "orders";

/// Minimum interval between group commits of a kind under load. A statement and its commit cost as
/// much as about 20 orders: fewer commits leave more capacity for orders.
const WRITE_INTERVAL: Duration = Duration::from_millis(1);

/// Maximum number of outcomes or callbacks per statement while several requests wait. The commit is
/// then a tenth of the cost, and a request waits for a batch for about 50 ms.
const MAX_SHARED_BATCH_ORDERS: usize = 512;

/// Batch options of sequential group commits of at most `max_items`.
const fn paced_batches(max_items: usize) -> BatchOptions {
    BatchOptions {
        max_items,
        max_shared_items: MAX_SHARED_BATCH_ORDERS,
        min_interval: WRITE_INTERVAL,
    }
}

/// A request's permits for orders in flight, and its turn in the fair queues.
#[derive(Debug)]
pub struct OrderAdmission {
    turn: FairTurn,
    _permit: OwnedSemaphorePermit,
}

impl OrderAdmission {
    /// For a new request, with a new turn.
    pub fn for_request(permit: OwnedSemaphorePermit) -> Self {
        Self::with_turn(permit, FairTurn::next())
    }

    /// For a part of a stream that already has a turn.
    pub fn with_turn(permit: OwnedSemaphorePermit, turn: FairTurn) -> Self {
        Self { turn, _permit: permit }
    }
}

/// State of an order. The numbers are stored and sent in protobuf messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i16)]
pub enum OrderState {
    /// Accepted; durable, no stage passed yet.
    Initialized = 1,
    /// Taken up by the pipeline.
    ProcessStarted = 2,
    /// Storage and pickup point are known.
    FinishedExternalInteraction = 3,
    /// Ended successfully: the ledger events are posted.
    ProcessFinished = 4,
    /// Given up; only a retry request revives it.
    Failed = 5,
}

impl OrderState {
    /// All states, by number.
    pub const ALL: [OrderState; 5] = [
        OrderState::Initialized,
        OrderState::ProcessStarted,
        OrderState::FinishedExternalInteraction,
        OrderState::ProcessFinished,
        OrderState::Failed,
    ];

    /// Name shown in the API and in messages.
    pub fn name(self) -> &'static str {
        match self {
            OrderState::Initialized => "order_initialized",
            OrderState::ProcessStarted => "order_process_started",
            OrderState::FinishedExternalInteraction => "order_finished_external_interaction",
            OrderState::ProcessFinished => "order_process_finished",
            OrderState::Failed => "order_failed",
        }
    }

    /// The state with this number; `None` for any other number.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state as i32 == number)
    }

    /// Whether the order has ended: finished or failed.
    pub fn is_final(self) -> bool {
        matches!(self, OrderState::ProcessFinished | OrderState::Failed)
    }
}

/// An order held by this process under a lane.
#[derive(Debug, Clone)]
pub struct OrderAttempt {
    /// Order id; any int32.
    pub order_id: i32,
    /// Product id, as accepted.
    pub product_id: i32,
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
    fn first_attempt(
        order_id: i32,
        product_id: i32,
        batch: Arc<AcceptedBatch>,
        admission: Arc<OrderAdmission>,
    ) -> Self {
        Self {
            order_id,
            product_id,
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
    has_left_orders: AtomicBool,
}

impl AcceptedBatch {
    fn new(id: Uuid, lane: Arc<Lease>, orders: usize) -> Arc<Self> {
        Arc::new(Self {
            id,
            lane,
            remaining: AtomicUsize::new(orders),
            has_left_orders: AtomicBool::new(false),
        })
    }

    /// Counts one order as ended; true for the last one.
    fn count_out_order(&self) -> bool {
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
    fn is_retried(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Deferred { .. })
    }
}

/// Outcome notice for subscribers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutcomeNotice {
    /// Order id; any int32.
    pub order_id: i32,
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
