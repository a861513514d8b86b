//! Composition root: opens the databases, starts all parts, serves until `stop`, shuts down in
//! order.

pub mod configurator;
pub mod database;
mod database_connection_limits;
mod duties;
mod events;
pub mod export;
mod http;
mod initial_shards;
pub mod ledger;
mod process;
pub mod processes;
pub mod queues;
mod ready;
pub mod routes;
mod shutdown;
mod tasks;
pub mod testproxy;

use std::time::Duration;

use ::ledger::sharding::LedgerShards;
use access::AccessControl;
use anyhow::Context as _;
use proto::order_service::order_service_server::OrderServiceServer;
use serving::http_guard::AllowedHosts;
use serving::listen::PortListeners;
use serving::ops::ServerReadiness;
use serving::scoped_router::ScopedRouter;
use serving::scoped_rpcs::ScopedRpcs;
use serving::server::{
    ByteBudget, ConnectionLimits, ListenerProtocol, ServerOptions, raise_file_limit,
};
use serving::tls::ServerTls;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::orders::api::{ORDER_SERVICE_RPCS, OrderApi};
use crate::reconcilers::bundle;

use crate::settings::{DatabaseSettings, ProcessRole, ServiceSettings};
use database::{ControlDatabase, DatabaseAccess};
use process::RunningProcess;
use processes::ProcessDescription;
use shutdown::{ShutdownParts, ShutdownSignal};

/// Large enough to refuse too many orders by count: 10,000 orders are at most 250 KB.
const MAX_GRPC_MESSAGE_BYTES: usize = 16 << 20;
/// File descriptors reserved for exports, queues, webhooks and the exchange.
const RESERVED_FILE_COUNT: u64 = 256;
/// Number of shards to reserve file descriptors for, before the shard map is known.
const ASSUMED_SHARD_COUNT: u64 = 16;

/// Serves until `stop` is cancelled.
pub async fn run_service(settings: ServiceSettings, stop: CancellationToken) -> anyhow::Result<()> {
    let (access, tls) = (settings.access.open_clients()?, settings.access.tls.open_server()?);
    let peer = (settings.access.open_peer_token()?, settings.access.tls.open_peer()?);
    let grpc = settings.roles.contains(&ProcessRole::Grpc);
    if grpc {
        // Trial bind: the port opens once the service is ready, but a taken port fails immediately.
        drop(PortListeners::bind(&settings.listen, settings.app_port, "--app-port").await?);
    }
    // An invalid shard map fails before anything is created.
    ledger::load_configured_shard_map(&settings.database)?;
    let export_to = match settings.roles.contains(&ProcessRole::Exporter) {
        true => export::build_export_writer_engine(&settings.export)?,
        false => None,
    };
    let readiness = ServerReadiness::not_ready("the database is not open yet");
    let options = server_options(&settings, access, tls);
    let (http_port, api) =
        http::start_http_server(&settings, readiness.clone(), options.clone()).await?;
    let (database, shards) = tokio::select! {
        opened = open_databases(&settings.database) => opened?,
        () = stop.cancelled() => return Ok(()),
    };
    let signal = ShutdownSignal::watch(&stop);
    let (heartbeat, heartbeat_stop) = start_heartbeat(&settings.roles, &database);
    let targets = bundle::ReconcileTargets::new(
        database.pool.clone(),
        bundle::ShardSet::from_open_shards(shards.all()),
    )
    .with_queues(&settings.queues.engine);
    bundle::apply_initial_bundle(&targets, &settings.bundle).await?;
    let running = process::start_process(&settings, &database, shards, peer, stop.clone()).await?;
    let fifo =
        queues::open_fifo_queues(&settings.queues.engine, &database.pool, &running.notifications)
            .await;
    let events =
        events::start_events(&settings.events, &database.pool, &running.notifications).await?;
    let background =
        tasks::start_background_tasks(&settings, &database, &running, &events.events, &fifo, &stop)
            .await?;
    let (configurator, configurator_tasks) =
        start_configurator(&settings, &database, &running, &fifo, &targets, &stop).await?;
    let routes = match settings.roles.contains(&ProcessRole::Http) {
        true => routes::build_api_routes(routes::HttpApiServices {
            ledger: running.ledger.clone(),
            tasks: background.tasks.clone(),
            events,
            targets,
            configurator,
            audit_pool: database.pool.clone(),
        }),
        false => ScopedRouter::new(),
    };
    api.install_routes(routes);
    let duties = duties::start_shard_duties(&running.ledger, &settings.roles, export_to, &stop);
    readiness.set_probe(ready::build_readiness_probe(
        &database,
        running.leases.clone(),
        running.ledger.shards.clone(),
    ));
    let parts =
        ShutdownParts { background, configurator_tasks, duties, heartbeat, heartbeat_stop, api };
    let served = if grpc {
        serve_grpc(&settings, &running, stop.clone(), http_port, &readiness, options).await
    } else {
        readiness.set(Ok(()));
        tracing::info!(http_port, "order service ready (no gRPC in this process)");
        stop.cancelled().await;
        running.finish_in_flight(settings.shutdown_timeout).await;
        Ok(())
    };
    readiness.set(Err("the service is stopping".to_owned()));
    parts.stop(signal, settings.shutdown_timeout, &running, &database).await;
    served
}

/// Opens the control database and the shards, and checks that the server has enough connections.
async fn open_databases(
    settings: &DatabaseSettings,
) -> anyhow::Result<(ControlDatabase, LedgerShards)> {
    let database = database::open_control_database(settings, DatabaseAccess::CreateMissing).await?;
    let shards = ledger::open_shards(settings, &database).await?;
    if database.embedded.is_none() {
        database_connection_limits::check_database_connection_limits(
            settings,
            &database.pool,
            &shards,
        )
        .await?;
    }
    Ok((database, shards))
}

/// Reports this process as alive in the control database until the token is cancelled.
fn start_heartbeat(
    roles: &[ProcessRole],
    database: &database::ControlDatabase,
) -> (JoinHandle<()>, CancellationToken) {
    let (pool, heartbeat_stop) = (database.pool.clone(), CancellationToken::new());
    let heartbeat = processes::run_heartbeat(
        pool,
        ProcessDescription::of_this_process(roles),
        heartbeat_stop.clone(),
    );
    (tokio::spawn(heartbeat), heartbeat_stop)
}

/// Configurator for the routes; starts the role if this process has it.
async fn start_configurator(
    settings: &ServiceSettings,
    database: &database::ControlDatabase,
    running: &RunningProcess,
    fifo: &queues::FifoQueueSet,
    targets: &bundle::ReconcileTargets,
    stop: &CancellationToken,
) -> anyhow::Result<(::configurator::Configurator, JoinSet<()>)> {
    let configurator = configurator::build_configurator(
        &settings.queues,
        &database.pool,
        &running.notifications,
        fifo,
    );
    if !settings.roles.contains(&ProcessRole::Configurator) {
        return Ok((configurator, JoinSet::new()));
    }
    let usage = bundle::TypeUsageFinder::new(targets.nested_pool.clone(), targets.shards.clone());
    let grace = settings.shutdown_timeout * 2 / 3;
    let running =
        configurator::start_configurator_role(&configurator, fifo, usage, grace, stop).await?;
    Ok((configurator, running))
}

/// Waits until all tasks, which have been stopping since the signal, have ended.
pub(crate) async fn join_tasks_within(mut running: JoinSet<()>, within: Duration) {
    let _ = timeout(within, async { while running.join_next().await.is_some() {} }).await;
}

/// Connection limits for clients, with file descriptors reserved for the process itself.
fn client_limits(database: &crate::settings::DatabaseSettings) -> ConnectionLimits {
    let reserved_files = RESERVED_FILE_COUNT
        + u64::from(database.connections)
        + u64::from(database.shard_connections) * ASSUMED_SHARD_COUNT;
    ConnectionLimits::for_open_files(raise_file_limit(), reserved_files, 2)
}

/// Options of the HTTP port; the gRPC port shares their budget and limits.
fn server_options(
    settings: &ServiceSettings,
    access: Option<AccessControl>,
    tls: Option<ServerTls>,
) -> ServerOptions {
    ServerOptions {
        protocol: ListenerProtocol::Http,
        hosts: AllowedHosts::with_loopback(settings.allowed_hosts.iter().cloned()),
        limits: client_limits(&settings.database),
        budget: ByteBudget::default(),
        client_limiter: settings.access.client_limiter(),
        access,
        tls,
    }
}

async fn serve_grpc(
    settings: &ServiceSettings,
    running: &RunningProcess,
    stop: CancellationToken,
    http_port: u16,
    readiness: &ServerReadiness,
    options: ServerOptions,
) -> anyhow::Result<()> {
    let service = OrderServiceServer::new(OrderApi::new(running.api_state.clone()))
        .accept_compressed(serving::grpc::GZIP)
        .max_decoding_message_size(MAX_GRPC_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_GRPC_MESSAGE_BYTES);
    let (routes, health) =
        serving::grpc::with_reflection_and_health(Routes::new(service)).context("reflection")?;
    health.set_serving::<OrderServiceServer<OrderApi>>().await;
    let listeners = PortListeners::bind(&settings.listen, settings.app_port, "--app-port").await?;
    let (port, addresses) = (listeners.port(), listeners.addresses());
    readiness.set(Ok(()));
    let tls = options.tls.is_some();
    tracing::info!(port, http_port, ?addresses, tls, "order service ready");
    let finished = CancellationToken::new();
    let options = ServerOptions {
        protocol: ListenerProtocol::Grpc,
        limits: options.limits.with_max_message_bytes(MAX_GRPC_MESSAGE_BYTES),
        ..options
    };
    let server = serving::server::serve_routes(
        listeners,
        ScopedRpcs::new(routes, &ORDER_SERVICE_RPCS),
        options,
        finished.clone(),
    );
    stop.cancelled().await;
    readiness.set(Err("the service is stopping".to_owned()));
    health.set_not_serving::<OrderServiceServer<OrderApi>>().await;
    health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
    // Callbacks are accepted until the last order in flight has ended: it may wait for one.
    running.finish_in_flight(settings.shutdown_timeout).await;
    finished.cancel();
    // Idle client connections must not block the shutdown.
    let _ = timeout(Duration::from_secs(1), server.wait_until_closed()).await;
    Ok(())
}
