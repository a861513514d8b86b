//! Wiring of a serving process: queue, leases, exchange, pipeline, writers, API state.

use std::sync::Arc;
use std::time::Duration;

use ledger::Ledger;
use ledger::sharding::LedgerShards;
use ledger::types::{LedgerTypeRegistry, TYPES_CHANNEL};
use queue::{Backoff, JOB_WAKE_CHANNEL, JobQueue};
use serving::peer::{GrpcPeer, PeerToken};
use serving::tls::ClientTls;
use sqlx::PgPool;
use store::{LeaseManager, LeaseOptions, PgNotification, PgNotificationHub};
use tokio::sync::{Semaphore, broadcast, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::database::ControlDatabase;
use crate::orders::api::{OpenRequests, OrderApiLimits, OrderApiParts, OrderApiState};
use crate::orders::db::{
    self, CALLBACK_CHANNEL, CallbackWriter, DatabaseClock, GiveUpPolicy, ORDER_QUEUE,
    OrderAcceptor, OrderAttemptWriter, PipelineSender,
};
use crate::orders::exchange::{
    AskDataManager, DataManagerExchange, ExchangeClient, ExchangeClientOptions,
};
use crate::orders::outcome_hub::OutcomeHub;
use crate::orders::pipeline::{self, PassThrough, PipelineSize, StageActions};
use crate::orders::postings::{LedgerOrderPoster, PostEvents};
use crate::orders::retry::RetryClaimer;
use crate::settings::{ProcessRole, ServiceSettings};

/// Capacity of the channel of adopted lanes.
const ADOPTED_LANE_CAPACITY: usize = 64;
/// Maximum backoff between two order attempts, before jitter.
const MAX_ORDER_BACKOFF: Duration = Duration::from_secs(60);
/// Maximum number of orders from the retry queue in memory.
const MAX_RETRIED_ORDERS: usize = 20_000;
/// Background attempts before an order can be given up, whatever its age.
const MIN_BACKGROUND_ATTEMPTS: u32 = 10;

/// The parts of a running process.
pub(super) struct RunningProcess {
    /// State of the gRPC API.
    pub(super) api_state: OrderApiState,
    /// Ledger, also used by the REST API.
    pub(super) ledger: Arc<Ledger>,
    /// Hub for notifications of the control database.
    pub(super) notifications: PgNotificationHub,
    /// Leases of this process on lanes of the order queue.
    pub(super) leases: LeaseManager,
    pipeline: RunningPipeline,
    order_writer: OrderAttemptWriter,
    jobs: JobQueue,
}

/// The running pipeline of orders.
struct RunningPipeline {
    entrance: PipelineSender,
    claimer_stop: CancellationToken,
    claimer: std::sync::Mutex<Option<JoinHandle<()>>>,
    workers: std::sync::Mutex<Vec<JoinHandle<()>>>,
}

/// Parts that the pipeline and the API share.
struct OrderParts {
    pool: PgPool,
    clock: Arc<DatabaseClock>,
    jobs: JobQueue,
    exchange: Arc<DataManagerExchange>,
    outcome_hub: OutcomeHub,
    order_writer: OrderAttemptWriter,
}

/// Starts all parts except the listeners.
pub(super) async fn start_process(
    settings: &ServiceSettings,
    database: &ControlDatabase,
    shards: LedgerShards,
    (peer_token, peer_tls): (PeerToken, Option<ClientTls>),
    stopping: CancellationToken,
) -> anyhow::Result<RunningProcess> {
    let pool = &database.pool;
    let clock = Arc::new(DatabaseClock::default());
    clock.observe(store::statement("read_control_clock", "SELECT now()").fetch_value(pool).await?);
    let notifications = listen_for_notifications(pool);
    let ledger = start_ledger(settings, pool, shards, &notifications).await?;
    let (jobs, leases) = start_jobs(settings, database, &notifications).await?;
    let exchange = start_exchange(settings, peer_token, peer_tls, &clock)?;
    let parts = OrderParts::start(settings, pool, clock, jobs, exchange);
    let pipeline = parts.start_pipeline(settings, &ledger);
    let api_state = parts.start_api(settings, &pipeline.entrance, &notifications, stopping);
    let OrderParts { jobs, order_writer, .. } = parts;
    Ok(RunningProcess { api_state, ledger, notifications, leases, pipeline, order_writer, jobs })
}

fn listen_for_notifications(pool: &PgPool) -> PgNotificationHub {
    let channels = vec![
        JOB_WAKE_CHANNEL,
        CALLBACK_CHANNEL,
        TYPES_CHANNEL,
        queue::fifo::FIFO_CHANNEL,
        queue::fifo::OUTBOX_CHANNEL,
        tasks::schedule::SCHEDULES_CHANNEL,
        tasks::CANCELLED_CHANNEL,
        events::configs::ACTION_CONFIGS_CHANNEL,
        configurator::run::RUNS_CHANNEL,
    ];
    let (notifications, _) = PgNotificationHub::start(pool.clone(), channels);
    notifications
}

/// Starts the ledger with the stored types, which are kept current.
async fn start_ledger(
    settings: &ServiceSettings,
    pool: &PgPool,
    shards: LedgerShards,
    notifications: &PgNotificationHub,
) -> store::Result<Arc<Ledger>> {
    let types = LedgerTypeRegistry::default();
    types.set(ledger::types::load_types(pool).await?);
    tokio::spawn(ledger::types::keep_types_current(
        pool.clone(),
        notifications.clone(),
        types.clone(),
    ));
    Ok(Ledger::start_with_max_info(shards, types, settings.max_info_bytes))
}

impl OrderParts {
    fn start(
        settings: &ServiceSettings,
        pool: &PgPool,
        clock: Arc<DatabaseClock>,
        jobs: JobQueue,
        exchange: Arc<DataManagerExchange>,
    ) -> Self {
        let pool = pool.clone();
        let outcome_hub = OutcomeHub::start(pool.clone());
        let order_writer = OrderAttemptWriter::start(
            pool.clone(),
            jobs.clone(),
            give_up_policy(settings),
            Arc::new(outcome_hub.clone()),
        );
        tokio::spawn(follow_after_lane_loss(jobs.clone(), outcome_hub.clone()));
        Self { pool, clock, jobs, exchange, outcome_hub, order_writer }
    }

    /// Starts the workers and the claimer of retries.
    fn start_pipeline(&self, settings: &ServiceSettings, ledger: &Arc<Ledger>) -> RunningPipeline {
        let (size, max_retried) = compute_pipeline_size(settings);
        let (entrance, exits) = db::open_pipeline_queue(size.max_in_flight());
        let poster = LedgerOrderPoster::new(self.pool.clone(), ledger.clone());
        let stages = StageActions {
            start: Arc::new(PassThrough),
            external: Arc::new(AskDataManager(self.exchange.clone())),
            finish: Arc::new(PostEvents(poster)),
        };
        let writer = self.order_writer.clone();
        let workers = pipeline::start_workers(exits, size, stages, self.clock.clone(), writer);
        let claimer_stop = CancellationToken::new();
        let claimer = RetryClaimer {
            pool: self.pool.clone(),
            jobs: self.jobs.clone(),
            breaker: self.exchange.breaker().clone(),
            pipeline_sender: entrance.clone(),
            attempt_writer: self.order_writer.clone(),
            max_in_flight: max_retried,
        };
        let claimer = tokio::spawn(claimer.run(claimer_stop.clone()));
        let (claimer, workers) = (Some(claimer).into(), workers.into());
        RunningPipeline { entrance, claimer_stop, claimer, workers }
    }

    /// Starts the writers of callbacks and accepted orders; returns the state of the API.
    fn start_api(
        &self,
        settings: &ServiceSettings,
        entrance: &PipelineSender,
        notifications: &PgNotificationHub,
        stopping: CancellationToken,
    ) -> OrderApiState {
        let exchange = self.exchange.clone();
        let callbacks = CallbackWriter::start(
            self.pool.clone(),
            Arc::new(move |callback| exchange.deliver(callback)),
        );
        let (received, exchange) = (notifications.subscribe(), self.exchange.clone());
        tokio::spawn(deliver_callback_notifications(received, exchange));
        let acceptor = OrderAcceptor::start(
            self.pool.clone(),
            self.jobs.clone(),
            self.clock.clone(),
            self.order_writer.doubtful_batches(),
            entrance.clone(),
        );
        OrderApiState::new(OrderApiParts {
            pool: self.pool.clone(),
            acceptor,
            callbacks,
            exchange: self.exchange.clone(),
            jobs: self.jobs.clone(),
            outcome_hub: self.outcome_hub.clone(),
            limits: order_api_limits(settings),
            stopping,
            closing: CancellationToken::new(),
            admission: Arc::new(Semaphore::new(settings.max_in_flight_orders)),
            open_requests: Arc::new(OpenRequests::default()),
        })
    }
}

fn give_up_policy(settings: &ServiceSettings) -> GiveUpPolicy {
    GiveUpPolicy {
        backoff: Backoff {
            first_delay: Duration::from_millis(200),
            max_delay: MAX_ORDER_BACKOFF,
            jitter: 0.2,
        },
        after: settings.give_up_after,
        // One request uses at most `max_attempts`; the others are background attempts.
        min_attempts: MIN_BACKGROUND_ATTEMPTS.saturating_add(settings.max_attempts),
    }
}

fn order_api_limits(settings: &ServiceSettings) -> OrderApiLimits {
    OrderApiLimits {
        max_orders_per_request: settings.max_orders_per_request,
        max_in_flight: settings.max_in_flight_orders,
        max_attempts: settings.max_attempts,
        default_timeout: Duration::from_secs(10),
    }
}

/// The pipeline's size (no more workers than orders can need), and the maximum number of orders
/// from the retry queue in the pipeline.
fn compute_pipeline_size(settings: &ServiceSettings) -> (PipelineSize, usize) {
    let fan = settings.fan_limit;
    let max_retried = settings.workers.saturating_mul(fan).div_ceil(2).min(MAX_RETRIED_ORDERS);
    let needed_workers = (settings.max_in_flight_orders + max_retried).div_ceil(fan);
    (PipelineSize { workers: settings.workers.min(needed_workers), fan_out: fan }, max_retried)
}

async fn start_jobs(
    settings: &ServiceSettings,
    database: &ControlDatabase,
    notifications: &PgNotificationHub,
) -> store::Result<(JobQueue, LeaseManager)> {
    let adopts_lanes = settings.roles.contains(&ProcessRole::Retry);
    let classes = if adopts_lanes { vec![queue::lane_class(ORDER_QUEUE)] } else { Vec::new() };
    let (lane_sender, lane_receiver) = mpsc::channel(ADOPTED_LANE_CAPACITY);
    let (leases, _) =
        LeaseManager::start(database.leases.clone(), LeaseOptions::default(), classes, lane_sender);
    let adopt: queue::LaneAdopter =
        Arc::new(|connection, lane| Box::pin(db::adopt_batches(connection, lane)));
    let jobs = JobQueue::start(
        database.pool.clone(),
        database.claims.clone(),
        ORDER_QUEUE,
        leases.clone(),
        notifications,
        lane_receiver,
        adopt,
    )
    .await?;
    Ok((jobs.with_max_delay(2 * MAX_ORDER_BACKOFF), leases))
}

fn start_exchange(
    settings: &ServiceSettings,
    token: PeerToken,
    tls: Option<ClientTls>,
    clock: &Arc<DatabaseClock>,
) -> anyhow::Result<Arc<DataManagerExchange>> {
    let peer = GrpcPeer::with_tls(&settings.data_manager_address, token, tls)
        .map_err(|error| anyhow::anyhow!("--data-manager-address: {error}"))?;
    let options = ExchangeClientOptions {
        // Includes calls whose order has already continued.
        max_calls: settings.workers.saturating_mul(settings.fan_limit),
        max_quick_calls: settings.exchange_concurrency,
        timeout: settings.callback_timeout,
        use_batches: settings.batch_exchange,
    };
    Ok(DataManagerExchange::new(
        ExchangeClient::new(peer, options),
        clock.clone(),
        settings.callback_timeout,
    ))
}

/// After a lane loss other processes finish its orders, so local waiters poll the database.
async fn follow_after_lane_loss(jobs: JobQueue, watch: OutcomeHub) {
    loop {
        let lane = jobs.own_lane();
        lane.wait_until_lost().await;
        watch.follow_all_orders();
        while jobs.own_lane().id == lane.id {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Delivers callbacks received by other replicas to orders that wait here.
async fn deliver_callback_notifications(
    mut notifications: broadcast::Receiver<PgNotification>,
    exchange: Arc<DataManagerExchange>,
) {
    loop {
        match notifications.recv().await {
            Ok(PgNotification::Received { channel, payload }) if channel == CALLBACK_CHANNEL => {
                db::parse_callback_notification(&payload).for_each(|callback| {
                    exchange.deliver(callback);
                });
            }
            Ok(_) => {}
            // Harmless: the next attempt of these orders reads the callback from the database.
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "callback notifications missed")
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

impl RunningPipeline {
    /// Stops the claimer, then waits until the workers have ended the orders in the queue.
    async fn wait_until_empty(&self) {
        self.claimer_stop.cancel();
        let claimer = self.claimer.lock().ok().and_then(|mut claimer| claimer.take());
        if let Some(claimer) = claimer {
            let _ = claimer.await;
        }
        // Workers end once the queue is empty.
        self.entrance.close();
        let workers = self
            .workers
            .lock()
            .map(|mut workers| std::mem::take(&mut *workers))
            .unwrap_or_default();
        futures::future::join_all(workers).await;
    }
}

impl RunningProcess {
    /// Drains open requests, then the pipeline. Orders unfinished after `within` stay in the
    /// database for another process or the next start.
    pub(super) async fn finish_in_flight(&self, within: Duration) {
        let deadline = Instant::now() + within;
        // Calls near the deadline get a partial answer instead of being cut off.
        let (api_state, close_after) =
            (self.api_state.clone(), within - within.min(Duration::from_secs(5)) / 5);
        tokio::spawn(async move {
            tokio::time::sleep(close_after).await;
            api_state.closing.cancel();
        });
        let finished = timeout_at(deadline, async {
            self.api_state.open_requests.wait_until_idle().await;
            self.pipeline.wait_until_empty().await;
            self.order_writer.wait_until_drained().await;
        });
        let finished = finished.await;
        self.pipeline.claimer_stop.cancel();
        self.pipeline.entrance.close();
        if finished.is_err() {
            tracing::warn!(within = ?within, "stopping with orders in flight: they go on after the next start");
        }
    }

    /// Releases the lanes, so that others adopt their orders immediately.
    pub(super) async fn release_lanes(&self) {
        let result = tokio::time::timeout(Duration::from_secs(2), self.jobs.release_lanes()).await;
        if !matches!(result, Ok(Ok(()))) {
            tracing::warn!(code = "UNAVAILABLE", "lanes could not be given back; they expire soon");
        }
    }
}
