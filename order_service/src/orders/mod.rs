//! Orders as they are stored: accepted in one batch, given their data, ended in one batch, read.
//!
//! Nothing outside this room knows the tables `orders`, `accepted_batches` and `orphan_callbacks`. Every write is
//! coalesced (`store::Coalescer`): one statement for whatever concurrent requests brought since the last one.
//! Lock order: lane, orders by id, jobs.

mod accept;
mod adopt;
mod callback;
mod clock;
mod end;
mod line;
mod mend;
mod orphan;
mod read;
mod retry;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use queue::{Job, QueueName};
use store::{Batches, Lease, Turn};
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

pub use accept::{AcceptError, Accepted, Acceptor};
pub use adopt::adopt;
pub use callback::{
    Basis, CALLBACK_CHANNEL, Callback, CallbackAnswer, CallbackStore, Data, Deliver, Stored,
    parse_notification,
};
pub use clock::Clock;
pub use end::{Audience, Ender, GiveUp};
pub use line::{Entrance, Exits, Taken, line};
pub use mend::{believe, post_again, revive};
pub use orphan::{Orphan, orphans};
pub use read::{Listing, Order, StateChange, get, list, load};
pub use retry::{RetryError, count as count_retryable, retry, retry_all, retry_in_state};

/// The retry queue of orders; a job's key is the order's id.
pub const QUEUE: QueueName = "orders";

/// From one write of a kind to the next while several clients are served: a statement and its commit cost as much as some
/// twenty orders, so half as many of them leave more for the orders.
const PACE: Duration = Duration::from_millis(1);

/// Orders whose ends, callbacks or postings are written in one statement while several requests wait for theirs: a commit is a
/// tenth of what they cost, and who waits for one waits some 50 ms.
const SHARED_BATCH: usize = 512;

/// One write after the other, each of whatever came meanwhile, `most` at a time.
const fn paced(most: usize) -> Batches {
    Batches { most, shared: SHARED_BATCH, pace: PACE }
}

/// A request's share of the memory set aside for orders, and its turn wherever its orders wait among those of others.
#[derive(Debug)]
pub struct Admission {
    turn: Turn,
    _permit: OwnedSemaphorePermit,
}

impl Admission {
    /// Of a request.
    pub fn of(permit: OwnedSemaphorePermit) -> Self {
        Self::in_turn(permit, Turn::next())
    }

    /// Of a part of something that has its turn already.
    pub fn in_turn(permit: OwnedSemaphorePermit, turn: Turn) -> Self {
        Self { turn, _permit: permit }
    }
}

/// How far an order has come; the numbers are those stored and those of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i16)]
pub enum State {
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

impl State {
    /// All states, in order.
    pub const ALL: [State; 5] = [
        State::Initialized,
        State::ProcessStarted,
        State::FinishedExternalInteraction,
        State::ProcessFinished,
        State::Failed,
    ];

    /// The stored and shown name.
    pub fn name(self) -> &'static str {
        match self {
            State::Initialized => "order_initialized",
            State::ProcessStarted => "order_process_started",
            State::FinishedExternalInteraction => "order_finished_external_interaction",
            State::ProcessFinished => "order_process_finished",
            State::Failed => "order_failed",
        }
    }

    /// The state with this number.
    pub fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state as i32 == number)
    }

    /// Whether nothing more happens to the order by itself.
    pub fn is_end(self) -> bool {
        matches!(self, State::ProcessFinished | State::Failed)
    }
}

/// An order in this process's hands.
#[derive(Debug, Clone)]
pub struct Work {
    /// Its id.
    pub order_id: i32,
    /// Its product.
    pub product_id: i32,
    /// How far it has come.
    pub state: State,
    /// Storage and pickup point, once stored.
    pub data: Option<Data>,
    /// What its postings are made of besides, once the data is stored.
    pub basis: Option<Basis>,
    /// Attempts that ended before this one.
    pub attempts: u32,
    /// When it reached [`State::ProcessStarted`].
    pub started_at: Option<DateTime<Utc>>,
    /// When it reached [`State::FinishedExternalInteraction`].
    pub external_at: Option<DateTime<Utc>>,
    /// What brought it here.
    pub origin: Origin,
    /// Whose it is, for all who share out what orders wait for.
    pub turn: Turn,
    /// Its share of the memory set aside for orders.
    pub admission: Option<Arc<Admission>>,
}

impl Work {
    fn fresh(order_id: i32, product_id: i32, batch: Arc<Batch>, admission: Arc<Admission>) -> Self {
        Self {
            order_id,
            product_id,
            state: State::Initialized,
            data: None,
            basis: None,
            attempts: 0,
            started_at: None,
            external_at: None,
            origin: Origin::Accepted(batch),
            turn: admission.turn,
            admission: Some(admission),
        }
    }
}

/// What brought an order into this process's hands, and what must be put right when it leaves them.
#[derive(Debug, Clone)]
pub enum Origin {
    /// Accepted by this process, in this batch.
    Accepted(Arc<Batch>),
    /// Claimed from the retry queue.
    Retried(Box<Job>),
}

impl Origin {
    /// The lane under which it is held.
    pub fn lane(&self) -> &Arc<Lease> {
        match self {
            Origin::Accepted(batch) => &batch.lane,
            Origin::Retried(job) => &job.lane,
        }
    }
}

/// Orders accepted by one commit.
#[derive(Debug)]
pub struct Batch {
    /// Its row.
    pub id: Uuid,
    /// The lane it is in.
    pub lane: Arc<Lease>,
    /// Orders of it still in hand.
    remaining: AtomicUsize,
    /// Whether one of its orders was left to whoever adopts the lane: then its row must stay.
    left: AtomicBool,
}

impl Batch {
    fn new(id: Uuid, lane: Arc<Lease>, orders: usize) -> Arc<Self> {
        Arc::new(Self { id, lane, remaining: AtomicUsize::new(orders), left: AtomicBool::new(false) })
    }

    /// Counts one order out; true for the last one.
    fn count_out(&self) -> bool {
        self.remaining.fetch_sub(1, Ordering::AcqRel) == 1
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
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
pub struct Told {
    /// The order.
    pub order_id: i32,
    /// Its data, as far as known.
    pub data: Option<Data>,
    /// What happened.
    pub news: News,
}

/// What happened to an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It finished.
    Finished,
    /// It failed for good.
    Failed,
    /// An attempt failed that used up one.
    AttemptFailed,
}
