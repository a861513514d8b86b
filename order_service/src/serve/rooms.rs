//! Wires the rooms of a running process together.

use std::sync::Arc;
use std::time::Duration;

use ledger::Ledger;
use ledger::sharding::Shards;
use ledger::types::{TYPES_CHANNEL, Types};
use queue::{Backoff, Jobs, WAKE_CHANNEL};
use serving::peer::Peer;
use store::{LeaseTerms, Leases, Notifications, Notify};
use tokio::sync::{Semaphore, broadcast, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::database::Database;
use crate::api::{Limits, OpenRequests, Rooms, Shared};
use crate::exchange::{Client, ClientTerms, Exchange};
use crate::orders::{self, Acceptor, CALLBACK_CHANNEL, CallbackStore, Clock, Ender, Entrance, GiveUp, QUEUE};
use crate::pipeline::{self, AskDataManager, PostEvents, Proceed, Size, Stages};
use crate::postings::LedgerPostings;
use crate::retry::Claimer;
use crate::settings::{Role, Settings};
use crate::watch::Watch;

/// Lanes taken over and not yet looked into.
const ADOPTED: usize = 64;
/// Between two attempts at an order, before jitter.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// Orders from the retry queue that are in memory at a time.
const MOST_RETRIED: usize = 20_000;
/// Attempts in the background before an order is given up, however long it has waited.
const MIN_BACKGROUND_ATTEMPTS: u32 = 10;

/// A running process.
pub(super) struct Running {
    /// For the API.
    pub(super) rooms: Rooms,
    /// For the REST API.
    pub(super) ledger: Arc<Ledger>,
    /// What the control database tells.
    pub(super) notifications: Notifications,
    /// What this process holds of the orders' queue.
    pub(super) leases: Leases,
    line: Entrance,
    claiming: CancellationToken,
    claimer: std::sync::Mutex<Option<JoinHandle<()>>>,
    workers: std::sync::Mutex<Vec<JoinHandle<()>>>,
    ender: Ender,
    jobs: Jobs,
}

/// Starts everything but the listeners.
pub(super) async fn start(
    settings: &Settings,
    database: &Database,
    shards: Shards,
    stopping: CancellationToken,
) -> anyhow::Result<Running> {
    let pool = database.pool.clone();
    let clock = Arc::new(Clock::default());
    let now = store::run(&pool, "clock", |connection| {
        Box::pin(async move { Ok(sqlx::query_scalar("SELECT now() -- clock").fetch_one(connection).await?) })
    });
    clock.set(now.await?);
    let channels = vec![
        WAKE_CHANNEL,
        CALLBACK_CHANNEL,
        TYPES_CHANNEL,
        queue::fifo::CHANNEL,
        queue::fifo::OUTBOX_CHANNEL,
        tasks::schedule::CHANNEL,
        tasks::CANCELLED_CHANNEL,
        events::configs::CHANNEL,
        configurator::run::RUNS_CHANNEL,
    ];
    let (notifications, _) = Notifications::start(pool.clone(), channels);
    let types = Types::default();
    types.set(ledger::types::load(&pool).await?);
    tokio::spawn(ledger::types::keep_current(pool.clone(), notifications.clone(), types.clone()));
    let ledger = Ledger::start_with_infos_up_to(shards, types, settings.max_info_bytes);
    let (jobs, leases) = start_jobs(settings, database, &notifications).await?;
    let exchange = start_exchange(settings, &clock)?;
    let watch = Watch::start(pool.clone());
    let backoff = Backoff { first: Duration::from_millis(200), most: LONGEST_BACKOFF, jitter: 0.2 };
    // At most so many are used up within one request; the others are in the background.
    let attempts = MIN_BACKGROUND_ATTEMPTS.saturating_add(settings.max_attempts);
    let terms = GiveUp { backoff, after: settings.give_up_after, attempts };
    let ender = Ender::start(pool.clone(), jobs.clone(), terms, Arc::new(watch.clone()));

    tokio::spawn(follow_after_loss(jobs.clone(), watch.clone()));
    let (size, retried) = pipeline_size(settings);
    let (line, exits) = orders::line(size.places());
    let stages = Stages {
        start: Arc::new(Proceed),
        external: Arc::new(AskDataManager(exchange.clone())),
        finish: Arc::new(PostEvents(Arc::new(LedgerPostings::new(pool.clone(), ledger.clone())))),
    };
    let workers = pipeline::start(exits, size, stages, clock.clone(), ender.clone());

    let claiming = CancellationToken::new();
    let claimer = Claimer {
        pool: pool.clone(),
        jobs: jobs.clone(),
        breaker: exchange.breaker().clone(),
        line: line.clone(),
        ender: ender.clone(),
        room: retried,
    };
    let claimer = tokio::spawn(claimer.run(claiming.clone()));

    let delivering = exchange.clone();
    let deliver = move |order_id, stored| delivering.deliver(order_id, stored);
    let callbacks = CallbackStore::start(pool.clone(), Arc::new(deliver));
    tokio::spawn(hear_callbacks(notifications.subscribe(), exchange.clone()));
    let acceptor = Acceptor::start(pool.clone(), jobs.clone(), clock, ender.doubtful(), line.clone());
    let rooms = Rooms::new(Shared {
        pool,
        acceptor,
        callbacks,
        exchange,
        jobs: jobs.clone(),
        watch,
        limits: Limits {
            orders_per_request: settings.max_orders_per_request,
            in_flight: settings.max_in_flight_orders,
            attempts: settings.max_attempts,
            deadline: Duration::from_secs(10),
        },
        stopping,
        closing: CancellationToken::new(),
        admission: Arc::new(Semaphore::new(settings.max_in_flight_orders)),
        open: Arc::new(OpenRequests::default()),
    });
    let (claimer, workers) = (Some(claimer).into(), workers.into());
    Ok(Running { rooms, ledger, notifications, leases, line, claiming, claimer, workers, ender, jobs })
}

/// No more workers than there can be orders for; and how many orders from the retry queue are in the pipeline at a time.
fn pipeline_size(settings: &Settings) -> (Size, usize) {
    let fan = settings.fan_limit;
    let retried = settings.workers.saturating_mul(fan).div_ceil(2).min(MOST_RETRIED);
    let busy = (settings.max_in_flight_orders + retried).div_ceil(fan);
    (Size { workers: settings.workers.min(busy), fan }, retried)
}

async fn start_jobs(
    settings: &Settings,
    database: &Database,
    notifications: &Notifications,
) -> store::Result<(Jobs, Leases)> {
    let adopts = settings.roles.contains(&Role::Retry);
    let classes = if adopts { vec![queue::lane_class(QUEUE)] } else { Vec::new() };
    let (adopted, arriving) = mpsc::channel(ADOPTED);
    let (leases, _) = Leases::start(database.leases.clone(), LeaseTerms::default(), classes, adopted);
    let adopt: queue::Adopt = Arc::new(|connection, lane| Box::pin(orders::adopt(connection, lane)));
    let pool = database.pool.clone();
    let jobs = Jobs::start(pool, QUEUE, leases.clone(), notifications, arriving, adopt).await?;
    Ok((jobs.waiting_at_most(2 * LONGEST_BACKOFF), leases))
}

fn start_exchange(settings: &Settings, clock: &Arc<Clock>) -> anyhow::Result<Arc<Exchange>> {
    let peer = Peer::at(&settings.data_manager_address)
        .map_err(|error| anyhow::anyhow!("--data-manager-address: {error}"))?;
    let terms = ClientTerms {
        // Also counting calls whose order has gone on already.
        calls: settings.workers.saturating_mul(settings.fan_limit),
        quick_calls: settings.exchange_concurrency,
        timeout: settings.callback_timeout,
        batches: settings.batch_exchange,
    };
    Ok(Exchange::new(Client::new(peer, terms), clock.clone(), settings.callback_timeout))
}

/// When this process has lost its lane, others end the orders its requests wait for.
async fn follow_after_loss(jobs: Jobs, watch: Watch) {
    loop {
        let lane = jobs.lane();
        lane.lost().await;
        watch.follow_all();
        while jobs.lane().id == lane.id {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Callbacks that came to other replicas, for orders that wait here.
async fn hear_callbacks(mut notifications: broadcast::Receiver<Notify>, exchange: Arc<Exchange>) {
    loop {
        match notifications.recv().await {
            Ok(Notify::Heard { channel, payload }) if channel == CALLBACK_CHANNEL => {
                orders::parse_notification(&payload).for_each(|(order_id, stored)| {
                    exchange.deliver(order_id, stored);
                });
            }
            Ok(_) => {}
            // Nothing is lost: their next attempt finds the data.
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "callback notifications missed")
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

impl Running {
    /// Finishes what is in flight: open requests, then what is in the pipeline; what is not done in time is in the
    /// database, for others or for the next start.
    pub(super) async fn finish(&self, within: Duration) {
        let by_then = Instant::now() + within;
        // Calls that would be cut off are answered with what there is.
        let (rooms, answer_in) = (self.rooms.clone(), within - within.min(Duration::from_secs(5)) / 5);
        tokio::spawn(async move {
            tokio::time::sleep(answer_in).await;
            rooms.closing.cancel();
        });
        let finished = timeout_at(by_then, async {
            self.rooms.open.none().await;
            self.claiming.cancel();
            let claimer = self.claimer.lock().ok().and_then(|mut claimer| claimer.take());
            if let Some(claimer) = claimer {
                let _ = claimer.await;
            }
            // The workers end when it is empty.
            self.line.close();
            let workers =
                self.workers.lock().map(|mut workers| std::mem::take(&mut *workers)).unwrap_or_default();
            futures::future::join_all(workers).await;
            self.ender.drained().await;
        });
        let finished = finished.await;
        self.claiming.cancel();
        self.line.close();
        if finished.is_err() {
            tracing::warn!(within = ?within, "stopping with orders in flight: they go on after the next start");
        }
    }

    /// Gives the lanes back: others carry on at once with what is in them.
    pub(super) async fn leave(&self) {
        let left = tokio::time::timeout(Duration::from_secs(2), self.jobs.leave()).await;
        if !matches!(left, Ok(Ok(()))) {
            tracing::warn!(code = "UNAVAILABLE", "lanes could not be given back; they expire soon");
        }
    }
}
