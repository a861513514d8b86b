//! A process of the order service without its listeners, whose stages the test chooses.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use order_service::orders::{
    self, AcceptError, Accepted, Acceptor, Admission, Callback, CallbackStore, Clock, Data, Ender, Exits,
    GiveUp, Order, QUEUE, State, Work,
};
use order_service::pipeline::{self, Action, Proceed, Size, StageError, Stages};
use order_service::retry::Claimer;
use queue::{Backoff, Jobs, WAKE_CHANNEL, lane_class};
use store::{LeaseTerms, Leases, Notifications, PgPool};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

pub const TERMS: LeaseTerms =
    LeaseTerms { ttl: Duration::from_millis(500), renew_every: Duration::from_millis(50) };
/// Never renews: a process that is paused, or was killed.
pub const PAUSED: LeaseTerms =
    LeaseTerms { ttl: Duration::from_millis(500), renew_every: Duration::from_secs(3600) };
const SIZE: Size = Size { workers: 4, fan: 4 };
pub const GIVE_UP: GiveUp = GiveUp {
    backoff: Backoff { first: Duration::from_millis(10), most: Duration::from_millis(50), jitter: 0.2 },
    after: Duration::from_secs(3600),
    attempts: 10,
};

struct Nobody;

impl orders::Audience for Nobody {
    fn tell(&self, _: &[orders::Told]) {}
    fn left(&self, _: i32) {}
}

pub struct Process {
    pub pool: PgPool,
    pub jobs: Jobs,
    pub acceptor: Acceptor,
    pub callbacks: CallbackStore,
    pub ender: Ender,
    /// Kept by a process that does not work: what it accepted stays in its hands.
    pub exits: Exits,
}

impl Process {
    /// A process with these stages, working.
    pub async fn working(pool: &PgPool, stages: Stages) -> Self {
        Self::working_with(pool, stages, GIVE_UP).await
    }

    /// The same, giving orders up as the test says.
    pub async fn working_with(pool: &PgPool, stages: Stages, give_up: GiveUp) -> Self {
        let process = Self::start(pool, TERMS, vec![lane_class(QUEUE)], give_up).await;
        pipeline::start(
            process.exits.clone(),
            SIZE,
            stages,
            Arc::new(Clock::default()),
            process.ender.clone(),
        );
        process
    }

    /// A process that accepts orders and then hangs, its leases running out.
    pub async fn hanging(pool: &PgPool) -> Self {
        Self::start(pool, PAUSED, Vec::new(), GIVE_UP).await
    }

    async fn start(pool: &PgPool, terms: LeaseTerms, adopts: Vec<String>, give_up: GiveUp) -> Self {
        let (adopted, arriving) = mpsc::channel(8);
        let (leases, _) = Leases::start(pool.clone(), terms, adopts, adopted);
        let (notifications, _) = Notifications::start(pool.clone(), vec![WAKE_CHANNEL]);
        let adopt: queue::Adopt = Arc::new(|connection, lane| Box::pin(orders::adopt(connection, lane)));
        let jobs = Jobs::start(pool.clone(), QUEUE, leases, &notifications, arriving, adopt).await.unwrap();
        let ender = Ender::start(pool.clone(), jobs.clone(), give_up, Arc::new(Nobody));
        let (line, exits) = orders::line(SIZE.places());
        let clock = Arc::new(Clock::default());
        let acceptor = Acceptor::start(pool.clone(), jobs.clone(), clock, ender.doubtful(), line.clone());
        let claimer = Claimer {
            pool: pool.clone(),
            jobs: jobs.clone(),
            breaker: order_service::exchange::Breaker::default(),
            line,
            ender: ender.clone(),
            room: 100,
        };
        if !terms.renew_every.gt(&terms.ttl) {
            tokio::spawn(claimer.run(CancellationToken::new()));
        }
        let callbacks = CallbackStore::start(pool.clone(), Arc::new(|_, _| false));
        Self { pool: pool.clone(), jobs, acceptor, callbacks, ender, exits }
    }

    pub async fn accept(&self, orders: &[(i32, i32)]) -> Result<Accepted, AcceptError> {
        let admission = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        self.acceptor.accept(orders.to_vec(), Arc::new(Admission::of(admission))).await
    }

    /// The order, once it is as wanted.
    pub async fn until(&self, order_id: i32, wanted: impl Fn(&Order) -> bool) -> Order {
        loop {
            if let Some(order) = orders::get(&self.pool, order_id).await.ok().flatten()
                && wanted(&order)
            {
                return order;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn ended(&self, order_id: i32) -> Order {
        self.until(order_id, |order| order.state.is_end()).await
    }
}

/// Stages that do nothing but bring their own data.
pub fn proceed(pool: &PgPool) -> Stages {
    Stages { start: Arc::new(Proceed), external: Arc::new(OwnData::new(pool)), finish: Arc::new(Proceed) }
}

/// Every order's data is derived from its id, and stored as a callback.
pub struct OwnData(pub CallbackStore);

impl OwnData {
    pub fn new(pool: &PgPool) -> Self {
        Self(CallbackStore::start(pool.clone(), Arc::new(|_, _| false)))
    }
}

pub fn data(order_id: i32) -> Data {
    Data { storage_id: order_id.wrapping_mul(2) | 1, pickup_point_id: order_id.wrapping_mul(3) | 1 }
}

impl Action for OwnData {
    fn run<'a>(&'a self, order: &'a mut Work) -> BoxFuture<'a, Result<(), StageError>> {
        Box::pin(async move {
            let callback = Callback { order_id: order.order_id, data: data(order.order_id) };
            self.0.store(callback).await.map_err(|error| StageError::Transient(error.to_string()))?;
            order.data = Some(callback.data);
            Ok(())
        })
    }
}

/// Does to single orders what the test says, each time they pass; the others go on.
pub struct Special<A> {
    pub inner: A,
    pub does: HashMap<i32, fn() -> Result<(), StageError>>,
    pub seen: Mutex<Vec<i32>>,
}

impl<A> Special<A> {
    pub fn new(inner: A, does: impl IntoIterator<Item = (i32, fn() -> Result<(), StageError>)>) -> Arc<Self> {
        Arc::new(Self { inner, does: does.into_iter().collect(), seen: Mutex::default() })
    }
}

impl<A: Action> Action for Special<A> {
    fn run<'a>(&'a self, order: &'a mut Work) -> BoxFuture<'a, Result<(), StageError>> {
        Box::pin(async move {
            self.seen.lock().unwrap().push(order.order_id);
            if let Some(does) = self.does.get(&order.order_id) {
                does()?;
            }
            self.inner.run(order).await
        })
    }
}

pub fn states(order: &Order) -> Vec<State> {
    order.history.iter().map(|change| change.state).collect()
}
