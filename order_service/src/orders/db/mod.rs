//! Orders in the control database: accepting, callbacks, attempt outcomes, reads and retries.
//!
//! - Shape: the only writer of `orders`, `accepted_batches` and `orphan_callbacks`. Every write of
//!   the order path is a group commit (`store::Coalescer`) over concurrent requests.
//! - Lock order: lane (lease), orders by id within a statement, jobs.
//! - Promise: an accepted order is durable and ends once; the fencing token of its lane guards
//!   every decision but the finish of a first attempt, which is idempotent.

mod accept;
mod adopt;
mod attempt;
mod attempt_writer;
mod callback;
mod clock;
mod order_data;
mod orphan;
mod pipeline_queue;
mod read;
mod repair;
mod retry;

use std::time::Duration;

use queue::QueueName;
use store::{BatchOptions, FairTurn};
use tokio::sync::OwnedSemaphorePermit;

pub use accept::{AcceptError, AcceptedOrders, EndedOrder, OrderAcceptor};
pub use adopt::adopt_batches;
use attempt::EndedAttempt;
pub use attempt::{
    AcceptedBatch, OrderAttempt, OrderAttemptOrigin, OrderAttemptOutcome, OutcomeKind,
    OutcomeNotice,
};
pub use attempt_writer::{GiveUpPolicy, OrderAttemptWriter, OutcomeSink};
pub use callback::{
    CALLBACK_CHANNEL, CallbackOutcome, CallbackWriter, DeliverCallback, OrderCallback,
    StoredCallback, parse_callback_notification,
};
pub use clock::DatabaseClock;
pub use order_data::{OrderData, PostingContext, StoredOrderData};
pub use orphan::{OrphanCallback, list_orphan_callbacks};
pub use pipeline_queue::{PipelineEntry, PipelineReceiver, PipelineSender, open_pipeline_queue};
pub use read::{Order, OrderListQuery, OrderStateChange, get_order, list_orders, load_orders};
pub use repair::{apply_ledger_data, repost_order, revive_order};
pub use retry::{
    OrderRetryError, RefusedRetry, count_retryable, retry_order, retry_orders,
    retry_orders_in_state,
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
