//! The composition root: opens the database, wires the rooms together, serves until told to stop, stops in order.

pub mod configurator;
pub(crate) mod connections;
pub mod database;
mod duties;
mod events;
pub mod export;
mod http;
mod initial_shards;
pub mod ledger;
pub mod queues;
mod ready;
mod rooms;
pub mod routes;
mod stopping;
mod tasks;
pub mod testproxy;

use std::time::Duration;

use anyhow::Context as _;
use proto::order_service::order_service_server::OrderServiceServer;
use serving::http_guard::Hosts;
use serving::listen::Listeners;
use serving::ops::Readiness;
use serving::server::{Budget, Limits, Protocol, Terms, raise_file_limit};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::api::OrderApi;
use crate::bundle;
use crate::processes::{self, Description};
use crate::settings::{Role, Settings};
use database::Access;
use rooms::Running;
use stopping::{Parts, Signal};

/// Large enough for too many orders to be refused by their number: 10,000 are 250 KB at most.
const LARGEST_MESSAGE: usize = 16 << 20;
/// Files for everything but clients and databases: exports, queues, webhooks, the exchange.
const OTHER_FILES: u64 = 256;
/// Shards whose connections are kept back before the shard map is known.
const USUAL_SHARDS: u64 = 16;

/// Serves until `stop`.
pub async fn serve(settings: Settings, stop: CancellationToken) -> anyhow::Result<()> {
    let grpc = settings.roles.contains(&Role::Grpc);
    if grpc {
        // Only tried: the port opens when it can serve, but one that is taken is said at once.
        drop(Listeners::bind(&settings.listen, settings.app_port, "--app-port").await?);
    }
    // A wrong shard map is said before anything is created.
    ledger::configured_map(&settings.database)?;
    let export_to = match settings.roles.contains(&Role::Exporter) {
        true => export::engine_to_write(&settings.export)?,
        false => None,
    };
    let readiness = Readiness::starting("the database is not open yet");
    let (budget, limits) = (Budget::default(), limits(&settings.database));
    let (http_port, api) = http::start(&settings, readiness.clone(), limits.clone(), budget.clone()).await?;
    let database = tokio::select! {
        database = database::open(&settings.database, Access::CreateMissing) => database?,
        () = stop.cancelled() => return Ok(()),
    };
    let shards = tokio::select! {
        shards = ledger::open(&settings.database, &database) => shards?,
        () = stop.cancelled() => return Ok(()),
    };
    if database.embedded.is_none() {
        connections::check(&settings.database, &database.pool, &shards).await?;
    }
    let signal = Signal::watch(&stop);
    let (heartbeat, gone) = start_heartbeat(&settings.roles, &database);
    let targets = bundle::Targets::new(database.pool.clone(), bundle::ShardSet::of(shards.all()))
        .with_queues(&settings.queues.engine);
    bundle::begin(&targets, &settings.bundle).await?;
    let running = rooms::start(&settings, &database, shards, stop.clone()).await?;
    let fifo = queues::open(&settings.queues.engine, &database.pool, &running.notifications).await;
    let events = events::start(&settings.events, &database.pool, &running.notifications).await?;
    let background = tasks::start(&settings, &database, &running, &events.events, &fifo, &stop).await?;
    let (configurator, configuring) =
        start_configurator(&settings, &database, &running, &fifo, &targets, &stop).await?;
    let routes = match settings.roles.contains(&Role::Http) {
        true => routes::all(routes::Served {
            ledger: running.ledger.clone(),
            tasks: background.tasks.clone(),
            events,
            targets,
            configurator,
        }),
        false => axum::Router::new(),
    };
    api.open(routes);
    let duties = duties::start(&running.ledger, &settings.roles, export_to, &stop);
    readiness.ask(ready::probe(&database, running.leases.clone(), running.ledger.shards.clone()));
    let parts = Parts { background, configuring, duties, heartbeat, gone, api };
    let served = if grpc {
        let terms = grpc_terms(&settings, limits, budget);
        serve_grpc(&settings, &running, stop.clone(), http_port, &readiness, terms).await
    } else {
        readiness.set(Ok(()));
        tracing::info!(http_port, "order service ready (no gRPC in this process)");
        stop.cancelled().await;
        running.finish(settings.shutdown_timeout).await;
        Ok(())
    };
    readiness.set(Err("the service is stopping".to_owned()));
    parts.stop(signal, settings.shutdown_timeout, &running, &database).await;
    served
}

/// Tells people of this process until the token is cancelled.
fn start_heartbeat(roles: &[Role], database: &database::Database) -> (JoinHandle<()>, CancellationToken) {
    let (pool, gone) = (database.pool.clone(), CancellationToken::new());
    let heartbeat = processes::run_heartbeat(pool, Description::of_this_process(roles), gone.clone());
    (tokio::spawn(heartbeat), gone)
}

/// What its routes ask, and what its role does, if this process has it.
async fn start_configurator(
    settings: &Settings,
    database: &database::Database,
    running: &Running,
    fifo: &queues::FifoQueues,
    targets: &bundle::Targets,
    stop: &CancellationToken,
) -> anyhow::Result<(::configurator::Configurator, JoinSet<()>)> {
    let configurator = configurator::of(&settings.queues, &database.pool, &running.notifications, fifo);
    if !settings.roles.contains(&Role::Configurator) {
        return Ok((configurator, JoinSet::new()));
    }
    let usage = bundle::InUse::new(targets.within.clone(), targets.shards.clone());
    let grace = settings.shutdown_timeout * 2 / 3;
    let running = configurator::start(&configurator, fifo, usage, grace, stop).await?;
    Ok((configurator, running))
}

/// Waits until everything has ended that has been stopping since the signal.
pub(crate) async fn ended(mut running: JoinSet<()>, within: Duration) {
    let _ = timeout(within, async { while running.join_next().await.is_some() {} }).await;
}

/// What clients may use of this process, with the files kept back that it needs itself.
fn limits(database: &crate::settings::DatabaseSettings) -> Limits {
    let kept_back =
        OTHER_FILES + u64::from(database.connections) + u64::from(database.shard_connections) * USUAL_SHARDS;
    Limits::within_files(raise_file_limit(), kept_back, 2)
}

fn grpc_terms(settings: &Settings, limits: Limits, budget: Budget) -> Terms {
    Terms {
        protocol: Protocol::Grpc,
        hosts: Hosts::loopback_and(settings.allowed_hosts.iter().cloned()),
        limits: limits.with_messages_of(LARGEST_MESSAGE),
        budget,
    }
}

async fn serve_grpc(
    settings: &Settings,
    running: &Running,
    stop: CancellationToken,
    http_port: u16,
    readiness: &Readiness,
    terms: Terms,
) -> anyhow::Result<()> {
    let service = OrderServiceServer::new(OrderApi::new(running.rooms.clone()))
        .accept_compressed(serving::grpc::GZIP)
        .max_decoding_message_size(LARGEST_MESSAGE)
        .max_encoding_message_size(LARGEST_MESSAGE);
    let (routes, health) =
        serving::grpc::with_reflection_and_health(Routes::new(service)).context("reflection")?;
    health.set_serving::<OrderServiceServer<OrderApi>>().await;
    let listeners = Listeners::bind(&settings.listen, settings.app_port, "--app-port").await?;
    let (port, addresses) = (listeners.port(), listeners.addresses());
    readiness.set(Ok(()));
    tracing::info!(port, http_port, ?addresses, "order service ready");
    let finished = CancellationToken::new();
    let server = serving::server::serve(listeners, routes.into_axum_router(), terms, finished.clone());
    stop.cancelled().await;
    readiness.set(Err("the service is stopping".to_owned()));
    health.set_not_serving::<OrderServiceServer<OrderApi>>().await;
    health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    // Callbacks are taken until the last order in flight has ended: its answer depends on them.
    running.finish(settings.shutdown_timeout).await;
    finished.cancel();
    // Idle connections of clients do not hold us up.
    let _ = timeout(Duration::from_secs(1), server.ended()).await;
    Ok(())
}
