//! Orders as they are stored: accepted in one batch, given their data, ended in one batch, read.
//!
//! Nothing outside this room knows the tables `orders`, `accepted_batches` and `orphan_callbacks`. Every write is
//! coalesced (`store::Coalescer`): one statement for whatever concurrent requests brought since the last one.
//! Lock order: lane, orders by id, jobs.

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

/// The retry queue of orders; a job's key is the order's id.
pub const ORDER_QUEUE: QueueName = "orders";

/// From one write of a kind to the next while several clients are served: a statement and its commit cost as much as some
/// twenty orders, so half as many of them leave more for the orders.
const WRITE_INTERVAL: Duration = Duration::from_millis(1);

/// Orders whose ends, callbacks or postings are written in one statement while several requests wait for theirs: a commit is a
/// tenth of what they cost, and who waits for one waits some 50 ms.
const MAX_SHARED_BATCH_ORDERS: usize = 512;

/// One write after the other, each of whatever came meanwhile, `max_items` at a time.
const fn paced_batches(max_items: usize) -> BatchOptions {
    BatchOptions {
        max_items,
        max_shared_items: MAX_SHARED_BATCH_ORDERS,
        min_interval: WRITE_INTERVAL,
    }
}

/// A request's share of the memory set aside for orders, and its turn wherever its orders wait among those of others.
#[derive(Debug)]
pub struct OrderAdmission {
    turn: FairTurn,
    _permit: OwnedSemaphorePermit,
}

impl OrderAdmission {
    /// Of a request.
    pub fn for_request(permit: OwnedSemaphorePermit) -> Self {
        Self::with_turn(permit, FairTurn::next())
    }

    /// Of a part of something that has its turn already.
    pub fn with_turn(permit: OwnedSemaphorePermit, turn: FairTurn) -> Self {
        Self { turn, _permit: permit }
    }
}

/// How far an order has come; the numbers are those stored and those of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i16)]
pub enum OrderState {
    /// Accepted.
    Initialized = 1,
    /// In the pipeline.
    ProcessStarted = 2,
    /// Storage and pickup point are known.
    FinishedExternalInteraction = 3,
    /// Done.
    ProcessFinished = 4,
    /// Given up.
    Failed = 5,
}

impl OrderState {
    /// All states, in order.
    pub const ALL: [OrderState; 5] = [
        OrderState::Initialized,
        OrderState::ProcessStarted,
        OrderState::FinishedExternalInteraction,
        OrderState::ProcessFinished,
        OrderState::Failed,
    ];

    /// The stored and shown name.
    pub fn name(self) -> &'static str {
        match self {
            OrderState::Initialized => "order_initialized",
            OrderState::ProcessStarted => "order_process_started",
            OrderState::FinishedExternalInteraction => "order_finished_external_interaction",
            OrderState::ProcessFinished => "order_process_finished",
            OrderState::Failed => "order_failed",
        }
    }

    /// The state with this number.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state as i32 == number)
    }

    /// Whether nothing more happens to the order by itself.
    pub fn is_final(self) -> bool {
        matches!(self, OrderState::ProcessFinished | OrderState::Failed)
    }
}

/// An order in this process's hands.
#[derive(Debug, Clone)]
pub struct OrderAttempt {
    /// Its id.
    pub order_id: i32,
    /// Its product.
    pub product_id: i32,
    /// How far it has come.
    pub state: OrderState,
    /// Storage and pickup point, once stored.
    pub data: Option<OrderData>,
    /// What its postings are made of besides, once the data is stored.
    pub posting_context: Option<PostingContext>,
    /// Attempts that ended before this one.
    pub attempts: u32,
    /// When it reached [`OrderState::ProcessStarted`].
    pub started_at: Option<DateTime<Utc>>,
    /// When it reached [`OrderState::FinishedExternalInteraction`].
    pub external_at: Option<DateTime<Utc>>,
    /// What brought it here.
    pub origin: OrderAttemptOrigin,
    /// Whose it is, for all who share out what orders wait for.
    pub turn: FairTurn,
    /// Its share of the memory set aside for orders.
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

/// What brought an order into this process's hands, and what must be put right when it leaves them.
#[derive(Debug, Clone)]
pub enum OrderAttemptOrigin {
    /// Accepted by this process, in this batch.
    Accepted(Arc<AcceptedBatch>),
    /// Claimed from the retry queue.
    Retried(Box<Job>),
}

impl OrderAttemptOrigin {
    /// The lane under which it is held.
    pub fn lane(&self) -> &Arc<Lease> {
        match self {
            OrderAttemptOrigin::Accepted(batch) => &batch.lane,
            OrderAttemptOrigin::Retried(job) => &job.lane,
        }
    }
}

/// Orders accepted by one commit.
#[derive(Debug)]
pub struct AcceptedBatch {
    /// Its row.
    pub id: Uuid,
    /// The lane it is in.
    pub lane: Arc<Lease>,
    /// Orders of it still in hand.
    remaining: AtomicUsize,
    /// Whether one of its orders was left to whoever adopts the lane: then its row must stay.
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

    /// Counts one order out; true for the last one.
    fn count_out_order(&self) -> bool {
        self.remaining.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderAttemptOutcome {
    /// All stages passed.
    Finished,
    /// Failed, and to be tried again.
    Waiting {
        /// Why.
        reason: String,
        /// Whether it used up an attempt (an unreachable data manager does not).
        counted: bool,
    },
    /// Failed for good.
    Failed {
        /// Why.
        reason: String,
    },
    /// Tried for long and often enough: failed for good, unless its data is stored by now. Then something of it may be
    /// posted, and it waits on.
    GivenUp {
        /// For how long it was tried.
        after: Duration,
        /// Why it failed the last time.
        reason: String,
    },
}

/// What those who wait for an order are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutcomeNotice {
    /// The order.
    pub order_id: i32,
    /// Its data, as far as known.
    pub data: Option<OrderData>,
    /// What happened.
    pub kind: OutcomeKind,
}

/// What happened to an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutcomeKind {
    /// It finished.
    Finished,
    /// It failed for good.
    Failed,
    /// An attempt failed that used up one.
    AttemptFailed,
}
