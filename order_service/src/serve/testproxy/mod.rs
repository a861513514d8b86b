//! Test proxy: a process that executes runs itself and answers a posted template with its export.

mod answer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use access::{AccessControl, Scope};
use configurator::Configurator;
use configurator::transcript::{self, TranscriptEntry, TranscriptReplay};
use queue::fifo::{
    FIFO_CHANNEL, FifoConsumerOptions, FifoQueuePair, OUTBOX_CHANNEL, consume_messages,
};
use serving::http_guard::AllowedHosts;
use serving::listen::PortListeners;
use serving::ops::{self, ServerReadiness};
use serving::scoped_router::ScopedRouter;
use serving::server::{
    ByteBudget, ConnectionLimits, ListenerProtocol, ServerOptions, raise_file_limit,
};
use serving::tls::ServerTls;
use store::PgNotificationHub;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::database::{self, DatabaseAccess};
use super::queues::FifoQueueSet;
use super::{configurator as room, join_tasks_within, ledger, queues};
use crate::reconcilers::bundle;
use crate::settings::ServiceSettings;
use crate::settings::database_connections::NESTED_DATABASE_CONNECTION_COUNT;

/// File descriptors reserved for everything except clients.
const RESERVED_FILE_COUNT: u64 = 256;

/// Options of a test proxy, beyond those of a service.
pub struct TestProxyOptions {
    /// Port of the HTTP listener.
    pub port: u16,
    /// Timeout of a run, before it is cancelled.
    pub timeout: Duration,
    /// Recording or replay of messages.
    pub transcript: TranscriptMode,
}

/// Handling of messages to integrations and their answers.
pub enum TranscriptMode {
    /// Neither recorded nor replayed.
    None,
    /// Appends messages and answers to this file.
    Record(PathBuf),
    /// Answers messages from these entries, without integrations.
    Replay(Vec<TranscriptEntry>),
}

/// State of the HTTP handlers.
#[derive(Clone)]
pub(super) struct TestProxyState {
    configurator: Configurator,
    timeout: Duration,
    record: Option<Arc<tokio::sync::Mutex<PathBuf>>>,
    /// Runs with a waiting caller.
    runs: TaskTracker,
    stop: CancellationToken,
}

/// Serves until `stop` is cancelled.
pub async fn run_test_proxy(
    settings: ServiceSettings,
    proxy: TestProxyOptions,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let security = (settings.access.open_clients()?, settings.access.tls.open_server()?);
    let listeners = PortListeners::bind(&settings.listen, proxy.port, "--port").await?;
    let database = tokio::select! {
        database = database::open_control_database(&settings.database, DatabaseAccess::CreateMissing) => database?,
        () = stop.cancelled() => return Ok(()),
    };
    let shards = ledger::open_shards(&settings.database, &database).await?;
    bundle::ensure_initial_bundle(&database.pool, &settings.bundle).await?;
    let channels = vec![FIFO_CHANNEL, OUTBOX_CHANNEL, configurator::run::RUNS_CHANNEL];
    let (notifications, _) = PgNotificationHub::start(database.pool.clone(), channels);
    let fifo =
        queues::open_fifo_queues(&settings.queues.engine, &database.pool, &notifications).await;
    let configurator =
        room::build_configurator(&settings.queues, &database.pool, &notifications, &fifo);
    let grace = settings.shutdown_timeout * 2 / 3;
    let mut running = JoinSet::new();
    fifo.start_outbox_relay(&database.pool, &notifications, &mut running, &stop);
    let (record, entries) = match proxy.transcript {
        TranscriptMode::None => (None, None),
        TranscriptMode::Record(file) => (Some(file), None),
        TranscriptMode::Replay(entries) => (None, Some(entries)),
    };
    let role_tasks = match entries {
        None => {
            let within =
                store::reserve_pool(&database.pool, "within", NESTED_DATABASE_CONNECTION_COUNT);
            let usage = bundle::TypeUsageFinder::new(
                within,
                Arc::new(bundle::ShardSet::from_open_shards(shards.all())),
            );
            room::start_configurator_role(&configurator, &fifo, usage, grace, &stop).await?
        }
        Some(entries) => start_replay(&configurator, &fifo, &entries, grace, &stop).await?,
    };
    let record = record.map(|file| Arc::new(tokio::sync::Mutex::new(file)));
    let (runs, timeout) = (TaskTracker::new(), proxy.timeout);
    let shared = TestProxyState {
        configurator: configurator.clone(),
        timeout,
        record,
        runs: runs.clone(),
        stop: stop.clone(),
    };
    start_listener(listeners, &settings, security, shared, stop.clone())?;
    stop.cancelled().await;
    // Waits until the runs are cancelled: active runs would block the next user of the database.
    runs.close();
    let _ = tokio::time::timeout(settings.shutdown_timeout / 3, runs.wait()).await;
    join_tasks_within(role_tasks, settings.shutdown_timeout).await;
    join_tasks_within(running, Duration::from_secs(2)).await;
    database.close().await;
    Ok(())
}

fn start_listener(
    listeners: PortListeners,
    settings: &ServiceSettings,
    (access, tls): (Option<AccessControl>, Option<ServerTls>),
    shared: TestProxyState,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let port = listeners.port();
    let readiness = ServerReadiness::not_ready("starting");
    readiness.set(Ok(()));
    let metrics = ops::install_metrics().map_err(anyhow::Error::msg)?;
    let hosts = AllowedHosts::with_loopback(settings.allowed_hosts.iter().cloned());
    let routes = ScopedRouter::new()
        .post("/", Scope::ConfiguratorRun, answer::run_posted_template)
        .get("/", Scope::ConfiguratorRun, get_hint)
        .with_state(shared.clone())
        .merge(configurator::http::configurator_routes(shared.configurator))
        .merge(ops::ops_routes(readiness, metrics));
    let limits = ConnectionLimits::for_open_files(raise_file_limit(), RESERVED_FILE_COUNT, 1);
    let options = ServerOptions {
        protocol: ListenerProtocol::Http,
        hosts,
        limits,
        budget: ByteBudget::default(),
        client_limiter: settings.access.client_limiter(),
        access,
        tls,
    };
    serving::server::serve_routes(listeners, routes, options, stop);
    tracing::info!(port, "test proxy ready: CONFIGSHOP_TEST_PROXY_URL={scheme}://localhost:{port}");
    Ok(())
}

async fn get_hint() -> &'static str {
    "POST a template here: {\"template\", \"template_name\", \"general_inputs\", \"env_inputs\", \"env\"}\n"
}

/// Starts the configurator role with a transcript in place of all integrations.
async fn start_replay(
    configurator: &Configurator,
    fifo: &FifoQueueSet,
    entries: &[TranscriptEntry],
    grace: Duration,
    stop: &CancellationToken,
) -> anyhow::Result<JoinSet<()>> {
    let answers = &configurator.settings.answers;
    if fifo.creates_queues {
        for (env, engine) in &configurator.engines {
            configurator::queues::ensure_answer_queue(engine.as_ref(), answers, *env).await?;
            for name in transcript::transcript_queues(entries) {
                configurator::queues::ensure_integration_queue(engine.as_ref(), &name, *env)
                    .await?;
            }
        }
    }
    let mut running = configurator.start(grace, stop);
    let options = FifoConsumerOptions {
        concurrency: 16,
        visibility_timeout: Duration::from_secs(30),
        shutdown_timeout: grace,
    };
    for (env, engine) in &configurator.engines {
        for name in transcript::transcript_queues(entries) {
            let (entries, engine, env, stop) =
                (entries.to_vec(), engine.clone(), *env, stop.clone());
            let answers = env.queue_name(answers);
            running.spawn(async move {
                let opened = async {
                    let to = configurator::queues::wait_for_queue(engine.as_ref(), &answers).await;
                    (
                        configurator::queues::wait_for_queue(
                            engine.as_ref(),
                            &env.queue_name(&name),
                        )
                        .await,
                        to,
                    )
                };
                let (queue, to) = tokio::select! {
                    () = stop.cancelled() => return,
                    opened = opened => opened,
                };
                let dead = configurator::queues::OptionalDeadLetterQueue::new(
                    engine,
                    env.dead_letter_queue_name(&name),
                );
                let queues = FifoQueuePair { queue, dead_letters: Arc::new(dead) };
                consume_messages(
                    queues,
                    Arc::new(TranscriptReplay::new(&entries, &name, to)),
                    options,
                    stop,
                )
                .await;
            });
        }
    }
    Ok(running)
}
