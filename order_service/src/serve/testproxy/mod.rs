//! The test proxy: a process that carries on runs itself and answers a template with its export.

mod answer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use configurator::Configurator;
use configurator::transcript::{self, Entry, Replay};
use queue::fifo::{CHANNEL, ConsumerTerms, OUTBOX_CHANNEL, Queues, consume};
use serving::http_guard::Hosts;
use serving::listen::Listeners;
use serving::ops::{self, Readiness};
use serving::server::{Budget, Limits, Protocol, Terms, raise_file_limit};
use store::Notifications;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connections::WITHIN;
use super::database::{self, Access};
use super::queues::FifoQueues;
use super::{configurator as room, ended, ledger, queues};
use crate::bundle;
use crate::settings::Settings;

/// Files for everything but clients.
const FILES_KEPT_BACK: u64 = 256;

/// How a test proxy differs from a service.
pub struct Proxy {
    /// Where it listens.
    pub port: u16,
    /// How long a run may take.
    pub timeout: Duration,
    /// What it does with messages and answers beside that.
    pub transcript: Transcript,
}

/// What is done with messages and their answers.
pub enum Transcript {
    /// Nothing.
    None,
    /// They are added to this file.
    Record(PathBuf),
    /// Messages are answered from this.
    Replay(Vec<Entry>),
}

/// What answering needs.
#[derive(Clone)]
pub(super) struct Shared {
    configurator: Configurator,
    timeout: Duration,
    record: Option<Arc<tokio::sync::Mutex<PathBuf>>>,
    /// Runs whose callers wait.
    runs: TaskTracker,
    stop: CancellationToken,
}

/// Serves until `stop`.
pub async fn serve(settings: Settings, proxy: Proxy, stop: CancellationToken) -> anyhow::Result<()> {
    let listeners = Listeners::bind(&settings.listen, proxy.port, "--port").await?;
    let database = tokio::select! {
        database = database::open(&settings.database, Access::CreateMissing) => database?,
        () = stop.cancelled() => return Ok(()),
    };
    let shards = ledger::open(&settings.database, &database).await?;
    bundle::ensure_first(&database.pool, &settings.bundle).await?;
    let channels = vec![CHANNEL, OUTBOX_CHANNEL, configurator::run::RUNS_CHANNEL];
    let (notifications, _) = Notifications::start(database.pool.clone(), channels);
    let fifo = queues::open(&settings.queues.engine, &database.pool, &notifications).await;
    let configurator = room::of(&settings.queues, &database.pool, &notifications, &fifo);
    let grace = settings.shutdown_timeout * 2 / 3;
    let mut running = JoinSet::new();
    fifo.relay(&database.pool, &notifications, &mut running, &stop);
    let (record, entries) = match proxy.transcript {
        Transcript::None => (None, None),
        Transcript::Record(file) => (Some(file), None),
        Transcript::Replay(entries) => (None, Some(entries)),
    };
    let role = match entries {
        None => {
            let within = store::reserve(&database.pool, "within", WITHIN);
            let usage = bundle::InUse::new(within, Arc::new(bundle::ShardSet::of(shards.all())));
            room::start(&configurator, &fifo, usage, grace, &stop).await?
        }
        Some(entries) => replay(&configurator, &fifo, &entries, grace, &stop).await?,
    };
    let record = record.map(|file| Arc::new(tokio::sync::Mutex::new(file)));
    let (runs, timeout) = (TaskTracker::new(), proxy.timeout);
    let shared = Shared {
        configurator: configurator.clone(),
        timeout,
        record,
        runs: runs.clone(),
        stop: stop.clone(),
    };
    listen(listeners, &settings, shared, stop.clone())?;
    stop.cancelled().await;
    // They are cancelled: whoever uses the database next must not find them in the way.
    runs.close();
    let _ = tokio::time::timeout(settings.shutdown_timeout / 3, runs.wait()).await;
    ended(role, settings.shutdown_timeout).await;
    ended(running, Duration::from_secs(2)).await;
    database.close().await;
    Ok(())
}

fn listen(
    listeners: Listeners,
    settings: &Settings,
    shared: Shared,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let port = listeners.port();
    let readiness = Readiness::starting("starting");
    readiness.set(Ok(()));
    let metrics = ops::metrics().map_err(anyhow::Error::msg)?;
    let hosts = Hosts::loopback_and(settings.allowed_hosts.iter().cloned());
    let routes = Router::new()
        .route("/", post(answer::answer).get(get_hint))
        .with_state(shared.clone())
        .merge(configurator::http::routes(shared.configurator))
        .merge(ops::routes(readiness, metrics));
    let limits = Limits::within_files(raise_file_limit(), FILES_KEPT_BACK, 1);
    let terms = Terms { protocol: Protocol::Http, hosts, limits, budget: Budget::default() };
    serving::server::serve(listeners, routes, terms, stop);
    tracing::info!(port, "test proxy ready: CONFIGSHOP_TEST_PROXY_URL=http://localhost:{port}");
    Ok(())
}

async fn get_hint() -> &'static str {
    "POST a template here: {\"template\", \"template_name\", \"general_inputs\", \"env_inputs\", \"env\"}\n"
}

/// The role, with a transcript in the place of all integrations.
async fn replay(
    configurator: &Configurator,
    fifo: &FifoQueues,
    entries: &[Entry],
    grace: Duration,
    stop: &CancellationToken,
) -> anyhow::Result<JoinSet<()>> {
    let answers = &configurator.settings.answers;
    if fifo.makes_queues {
        for (env, engine) in &configurator.engines {
            configurator::queues::ensure_answers(engine.as_ref(), answers, *env).await?;
            for name in transcript::queues(entries) {
                configurator::queues::ensure(engine.as_ref(), &name, *env).await?;
            }
        }
    }
    let mut running = configurator.start(grace, stop);
    let terms = ConsumerTerms { concurrency: 16, visibility: Duration::from_secs(30), grace };
    for (env, engine) in &configurator.engines {
        for name in transcript::queues(entries) {
            let (entries, engine, env, stop) = (entries.to_vec(), engine.clone(), *env, stop.clone());
            let answers = env.queue(answers);
            running.spawn(async move {
                let opened = async {
                    let to = configurator::queues::opened(engine.as_ref(), &answers).await;
                    (configurator::queues::opened(engine.as_ref(), &env.queue(&name)).await, to)
                };
                let (queue, to) = tokio::select! {
                    () = stop.cancelled() => return,
                    opened = opened => opened,
                };
                let dead = configurator::queues::OptionalQueue::new(engine, env.dead_letters(&name));
                let queues = Queues { queue, dead_letters: Arc::new(dead) };
                consume(queues, Arc::new(Replay::new(&entries, &name, to)), terms, stop).await;
            });
        }
    }
    Ok(running)
}
