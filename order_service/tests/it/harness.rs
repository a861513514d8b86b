//! Test harness: an order service process without listeners, with the stages of the test.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use order_service::orders::db::{
    self, AcceptError, AcceptedOrders, CallbackWriter, DatabaseClock, GiveUpPolicy, ORDER_QUEUE,
    Order, OrderAcceptor, OrderAdmission, OrderAttempt, OrderAttemptWriter, OrderCallback,
    OrderData, OrderState, PipelineReceiver,
};
use order_service::orders::pipeline::{
    self, PassThrough, PipelineSize, StageAction, StageActions, StageError,
};
use order_service::orders::retry::RetryClaimer;
use order_service::orders::{NewOrder, OrderId};
use queue::{Backoff, JOB_WAKE_CHANNEL, JobQueue, lane_class};
use store::{LeaseManager, LeaseOptions, PgNotificationHub, PgPool};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

pub const TERMS: LeaseOptions =
    LeaseOptions { ttl: Duration::from_millis(500), renewal_interval: Duration::from_millis(50) };
/// Leases that are never renewed: a paused or killed process.
pub const PAUSED: LeaseOptions =
    LeaseOptions { ttl: Duration::from_millis(500), renewal_interval: Duration::from_secs(3600) };
const SIZE: PipelineSize = PipelineSize { workers: 4, fan_out: 4 };
pub const GIVE_UP: GiveUpPolicy = GiveUpPolicy {
    backoff: Backoff {
        first_delay: Duration::from_millis(10),
        max_delay: Duration::from_millis(50),
        jitter: 0.2,
    },
    after: Duration::from_secs(3600),
    min_attempts: 10,
};

struct Nobody;

impl db::OutcomeSink for Nobody {
    fn publish_outcomes(&self, _: &[db::OutcomeNotice]) {}
    fn follow_order(&self, _: OrderId) {}
}

pub struct Process {
    pub pool: PgPool,
    pub jobs: JobQueue,
    pub acceptor: OrderAcceptor,
    pub callbacks: CallbackWriter,
    pub ender: OrderAttemptWriter,
    /// Not taken from by a hanging process: its accepted orders stay in flight.
    pub exits: PipelineReceiver,
}

impl Process {
    /// A running process with these stages.
    pub async fn working(pool: &PgPool, stages: StageActions) -> Self {
        Self::working_with(pool, stages, GIVE_UP).await
    }

    /// Like [`Self::working`] with another give-up policy.
    pub async fn working_with(pool: &PgPool, stages: StageActions, give_up: GiveUpPolicy) -> Self {
        let process = Self::start(pool, TERMS, vec![lane_class(ORDER_QUEUE)], give_up).await;
        pipeline::start_workers(
            process.exits.clone(),
            SIZE,
            stages,
            Arc::new(DatabaseClock::default()),
            process.ender.clone(),
        );
        process
    }

    /// A process that accepts orders and then hangs; its leases expire.
    pub async fn hanging(pool: &PgPool) -> Self {
        Self::start(pool, PAUSED, Vec::new(), GIVE_UP).await
    }

    async fn start(
        pool: &PgPool,
        terms: LeaseOptions,
        adopts: Vec<String>,
        give_up: GiveUpPolicy,
    ) -> Self {
        let (adopted, arriving) = mpsc::channel(8);
        let (leases, _) = LeaseManager::start(pool.clone(), terms, adopts, adopted);
        let (notifications, _) = PgNotificationHub::start(pool.clone(), vec![JOB_WAKE_CHANNEL]);
        let adopt: queue::LaneAdopter =
            Arc::new(|connection, lane| Box::pin(db::adopt_batches(connection, lane)));
        let claims = store::open_single_connection_pool(pool);
        let jobs = JobQueue::start(
            pool.clone(),
            claims,
            ORDER_QUEUE,
            leases,
            &notifications,
            arriving,
            adopt,
        )
        .await
        .unwrap();
        let ender =
            OrderAttemptWriter::start(pool.clone(), jobs.clone(), give_up, Arc::new(Nobody));
        let (line, exits) = db::open_pipeline_queue(SIZE.max_in_flight());
        let clock = Arc::new(DatabaseClock::default());
        let acceptor = OrderAcceptor::start(
            pool.clone(),
            jobs.clone(),
            clock,
            ender.doubtful_batches(),
            line.clone(),
        );
        let claimer = RetryClaimer {
            pool: pool.clone(),
            jobs: jobs.clone(),
            breaker: order_service::orders::exchange::CircuitBreaker::default(),
            pipeline_sender: line,
            attempt_writer: ender.clone(),
            max_in_flight: 100,
        };
        if !terms.renewal_interval.gt(&terms.ttl) {
            tokio::spawn(claimer.run(CancellationToken::new()));
        }
        let callbacks = CallbackWriter::start(pool.clone(), Arc::new(|_| false));
        Self { pool: pool.clone(), jobs, acceptor, callbacks, ender, exits }
    }

    /// Accepts orders, given as (order id, product id).
    pub async fn accept(&self, orders: &[(i32, i32)]) -> Result<AcceptedOrders, AcceptError> {
        let orders = orders.iter().map(|(order_id, product_id)| NewOrder {
            order_id: (*order_id).into(),
            product_id: (*product_id).into(),
        });
        let admission = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        self.acceptor
            .accept(orders.collect(), Arc::new(OrderAdmission::for_request(admission)))
            .await
    }

    /// Waits until the order satisfies the condition.
    pub async fn until(
        &self,
        order_id: impl Into<OrderId>,
        wanted: impl Fn(&Order) -> bool,
    ) -> Order {
        let order_id = order_id.into();
        loop {
            if let Some(order) = db::get_order(&self.pool, order_id).await.ok().flatten()
                && wanted(&order)
            {
                return order;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn ended(&self, order_id: impl Into<OrderId>) -> Order {
        self.until(order_id, |order| order.state.is_final()).await
    }
}

/// Stages that do nothing but store generated data.
pub fn proceed(pool: &PgPool) -> StageActions {
    StageActions {
        start: Arc::new(PassThrough),
        external: Arc::new(OwnData::new(pool)),
        finish: Arc::new(PassThrough),
    }
}

/// Data derived from the order id, stored as a callback.
pub struct OwnData(pub CallbackWriter);

impl OwnData {
    pub fn new(pool: &PgPool) -> Self {
        Self(CallbackWriter::start(pool.clone(), Arc::new(|_| false)))
    }
}

pub fn data(order_id: impl Into<OrderId>) -> OrderData {
    let number = order_id.into().get();
    OrderData {
        storage_id: (number.wrapping_mul(2) | 1).into(),
        pickup_point_id: (number.wrapping_mul(3) | 1).into(),
    }
}

impl StageAction for OwnData {
    fn run<'a>(&'a self, order: &'a mut OrderAttempt) -> BoxFuture<'a, Result<(), StageError>> {
        Box::pin(async move {
            let callback = OrderCallback { order_id: order.order_id, data: data(order.order_id) };
            self.0
                .store(callback)
                .await
                .map_err(|error| StageError::Transient(error.to_string()))?;
            order.data = Some(callback.data);
            Ok(())
        })
    }
}

/// Runs a function of the test for single orders, at each attempt.
pub struct Special<A> {
    pub inner: A,
    pub does: HashMap<i32, fn() -> Result<(), StageError>>,
    pub seen: Mutex<Vec<OrderId>>,
}

impl<A> Special<A> {
    pub fn new(
        inner: A,
        does: impl IntoIterator<Item = (i32, fn() -> Result<(), StageError>)>,
    ) -> Arc<Self> {
        Arc::new(Self { inner, does: does.into_iter().collect(), seen: Mutex::default() })
    }
}

impl<A: StageAction> StageAction for Special<A> {
    fn run<'a>(&'a self, order: &'a mut OrderAttempt) -> BoxFuture<'a, Result<(), StageError>> {
        Box::pin(async move {
            self.seen.lock().unwrap().push(order.order_id);
            if let Some(does) = self.does.get(&order.order_id.get()) {
                does()?;
            }
            self.inner.run(order).await
        })
    }
}

pub fn states(order: &Order) -> Vec<OrderState> {
    order.history.iter().map(|change| change.state).collect()
}
